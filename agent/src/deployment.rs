//! The state machine of one deployment: which phase follows which event. Pure and total; the effects of the
//! phases live in [`crate::deploy`], what they change in the record in [`crate::record`].
//!
//! ```text
//! Pending ─ Building ─ Testing ─ Staged ─ Starting ─ Ready ─ Shifting ─ Promoted ─ Baking ─ Committed ─ Draining ─ Retired
//!    └──────────┴─────────┴────────┴─▶ Failed  └───────┴────────┴─────────┴─────────┴─▶ Aborting ─▶ RolledBack | Failed
//! ```
//! A release that is kept on the host goes from Pending to Starting; without traffic to shift, Ready goes to Baking.

use std::fmt;

use serde::{Deserialize, Serialize};
use state::durable::Unknown;

/// Where a deployment stands. The record holds it before the phase's effect begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The pinned source commit is fetched.
    Pending,
    /// The build's steps run.
    Building,
    /// The tests' steps run.
    Testing,
    /// The release moves into its place.
    Staged,
    /// The idle slot is started.
    Starting,
    /// Startup, identity and readiness are checked.
    Ready,
    /// Requests move to the candidate.
    Shifting,
    /// The roles of the slots are flipped.
    Promoted,
    /// The new stable slot is watched; the old one is kept for going back.
    Baking,
    /// The release is remembered as good.
    Committed,
    /// The old slot ends its requests and stops.
    Draining,
    /// Done: the old slot is free.
    Retired,
    /// Requests go back to the stable slot, then the candidate stops.
    Aborting,
    /// Ended: the old release runs again.
    RolledBack,
    /// Ended: the new release does not run, and nothing had to be brought back or could be.
    Failed,
    /// One of a newer version: whatever it is, this one leaves it alone.
    #[serde(untagged)]
    Unknown(Unknown),
}

impl Phase {
    /// Every phase that is known, in order.
    pub const ALL: [Self; 15] = [
        Self::Pending,
        Self::Building,
        Self::Testing,
        Self::Staged,
        Self::Starting,
        Self::Ready,
        Self::Shifting,
        Self::Promoted,
        Self::Baking,
        Self::Committed,
        Self::Draining,
        Self::Retired,
        Self::Aborting,
        Self::RolledBack,
        Self::Failed,
    ];

    /// Says whether the deployment has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Retired | Self::RolledBack | Self::Failed)
    }

    /// Says whether a newer release may take this deployment's place: no request has been moved yet.
    pub const fn is_replaceable(self) -> bool {
        matches!(
            self,
            Self::Pending
                | Self::Building
                | Self::Testing
                | Self::Staged
                | Self::Starting
                | Self::Ready
        )
    }

    /// Says whether the phase depends on processes of the slot, which a reboot ends.
    pub const fn needs_processes(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Ready | Self::Shifting | Self::Promoted | Self::Baking
        )
    }

    /// The phase's name as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Building => "building",
            Self::Testing => "testing",
            Self::Staged => "staged",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Shifting => "shifting",
            Self::Promoted => "promoted",
            Self::Baking => "baking",
            Self::Committed => "committed",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Aborting => "aborting",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
            Self::Unknown(phase) => phase.as_str(),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the effect of a phase came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The source commit is here and on its branch.
    Fetched,
    /// The release is kept on this host: nothing to fetch, build or test.
    Kept,
    /// All build steps succeeded and the outputs were taken.
    Built,
    /// All tests succeeded.
    Tested,
    /// The release is in its place.
    Stored,
    /// The slot's process runs.
    Started,
    /// The slot is ready, and there are requests to move to it.
    Answered,
    /// The slot is ready, and it has the place of the old one already (recreate, or no traffic).
    AnsweredAlone,
    /// The proxy confirmed the new weights.
    Shifted,
    /// The proxy confirmed the new roles.
    Flipped,
    /// The slot stayed well for the whole bake.
    Baked,
    /// `lastGood` is written.
    Remembered,
    /// The old slot is stopped, or there was none.
    Drained,
    /// The phase failed, the deployment was superseded or held, or a reboot ended its processes.
    Broken,
    /// The stable slot has all requests, and the candidate is stopped.
    Restored,
    /// The candidate is stopped, and there is no stable slot.
    Emptied,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 16] = [
        Self::Fetched,
        Self::Kept,
        Self::Built,
        Self::Tested,
        Self::Stored,
        Self::Started,
        Self::Answered,
        Self::AnsweredAlone,
        Self::Shifted,
        Self::Flipped,
        Self::Baked,
        Self::Remembered,
        Self::Drained,
        Self::Broken,
        Self::Restored,
        Self::Emptied,
    ];
}

/// An event that cannot happen in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {event:?} is not possible while {phase}")]
pub struct Illegal {
    phase: Phase,
    event: Event,
}

/// The phase that follows `phase` upon `event`.
pub const fn next(phase: Phase, event: Event) -> Result<Phase, Illegal> {
    use Phase::{
        Aborting, Baking, Building, Committed, Draining, Failed, Pending, Promoted, Ready, Retired,
        RolledBack, Shifting, Staged, Starting, Testing,
    };
    Ok(match (phase, event) {
        (Pending, Event::Fetched) => Building,
        (Pending, Event::Kept) => Starting,
        (Building, Event::Built) => Testing,
        (Testing, Event::Tested) => Staged,
        (Staged, Event::Stored) => Starting,
        (Starting, Event::Started) => Ready,
        (Ready, Event::Answered) => Shifting,
        (Ready, Event::AnsweredAlone) => Baking,
        (Shifting, Event::Shifted) => Promoted,
        (Promoted, Event::Flipped) => Baking,
        (Baking, Event::Baked) => Committed,
        (Committed, Event::Remembered) => Draining,
        (Draining, Event::Drained) => Retired,
        (Pending | Building | Testing | Staged, Event::Broken) => Failed,
        (Starting | Ready | Shifting | Promoted | Baking, Event::Broken) => Aborting,
        (Aborting, Event::Restored) => RolledBack,
        (Aborting, Event::Emptied) => Failed,
        _ => return Err(Illegal { phase, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All phases that can be reached from `start`, itself not included unless there is a way back to it.
    fn reachable(start: Phase) -> BTreeSet<&'static str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(phase) = open.pop() {
            for event in Event::ALL {
                if let Ok(to) = next(phase, event)
                    && seen.insert(to.as_str())
                {
                    open.push(to);
                }
            }
        }
        seen
    }

    #[test]
    fn terminal_phases_accept_no_event_and_all_others_reach_an_end() {
        for phase in Phase::ALL {
            let ways = Event::ALL
                .iter()
                .filter(|event| next(phase, **event).is_ok())
                .count();
            assert_eq!(ways == 0, phase.is_terminal(), "{phase}");
            if !phase.is_terminal() {
                let ends = reachable(phase);
                assert!(
                    ["retired", "rolled back", "failed"]
                        .iter()
                        .any(|end| ends.contains(end)),
                    "{phase}"
                );
            }
        }
    }

    #[test]
    fn a_deployment_never_returns_to_a_phase() {
        for phase in Phase::ALL {
            assert!(!reachable(phase).contains(phase.as_str()), "{phase}");
        }
    }

    #[test]
    fn an_abort_can_only_end_rolled_back_or_failed() {
        assert_eq!(
            reachable(Phase::Aborting),
            BTreeSet::from(["rolled back", "failed"])
        );
    }

    #[test]
    fn a_committed_release_is_never_aborted() {
        assert!(!reachable(Phase::Committed).contains("aborting"));
    }

    #[test]
    fn whatever_started_a_process_goes_through_aborting_before_it_fails() {
        for phase in Phase::ALL.into_iter().filter(|p| p.needs_processes()) {
            assert_eq!(next(phase, Event::Broken), Ok(Phase::Aborting), "{phase}");
        }
    }

    #[test]
    fn an_illegal_event_says_what_stood_where() {
        assert_eq!(
            next(Phase::Retired, Event::Baked).unwrap_err().to_string(),
            "event Baked is not possible while retired"
        );
    }
}
