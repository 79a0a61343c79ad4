//! The one table of the stages of a deployment: what follows what, what a crash leaves of each, and which may be broken
//! off for a newer release. Pure and total; the effects are in [`crate::deployment::stages`], what they change in the
//! record in [`crate::deployment::transition`].
//!
//! ```text
//! Pending ─ Building ─ Testing ─ Staged ─ Starting ─ Ready ─ Shifting ─ Promoted ─ Baking ─ Committed ─ Draining ─ Retired
//!    └──────────┴─────────┴────────┴─▶ Failed  └───────┴────────┴─────────┴─────────┴─▶ Aborting ─▶ RolledBack | Failed
//! ```
//! A release that is kept on the host goes from Pending to Starting; without traffic to shift, Ready goes to Baking.

use crate::deployment::phase::{Event, Phase};

/// One stage.
#[derive(Debug)]
pub struct Stage {
    /// Its phase.
    pub phase: Phase,
    /// Which phase follows what its effect came to.
    pub next: &'static [(Event, Phase)],
    /// What becomes of it when the agent was killed in it.
    pub after_crash: AfterCrash,
    /// Whether a newer release may take the deployment's place: no request has been moved yet.
    pub replaceable: bool,
    /// Whether it depends on processes of the slot, which a reboot ends.
    pub needs_processes: bool,
}

/// What becomes of a stage that was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterCrash {
    /// What it made is lost: the deployment begins again from its first stage.
    BeginAgain,
    /// Its effect is brought about once more; after a reboot not if it needs processes.
    GoOn,
}

/// All stages, in order; the last one is where a deployment goes that is broken off.
pub const STAGES: [Stage; 12] = [
    Stage {
        phase: Phase::Pending,
        next: &[
            (Event::Fetched, Phase::Building),
            (Event::Kept, Phase::Starting),
            (Event::Broken, Phase::Failed),
        ],
        after_crash: AfterCrash::BeginAgain,
        replaceable: true,
        needs_processes: false,
    },
    Stage {
        phase: Phase::Building,
        next: &[
            (Event::Built, Phase::Testing),
            (Event::Broken, Phase::Failed),
        ],
        after_crash: AfterCrash::BeginAgain,
        replaceable: true,
        needs_processes: false,
    },
    Stage {
        phase: Phase::Testing,
        next: &[
            (Event::Tested, Phase::Staged),
            (Event::Broken, Phase::Failed),
        ],
        after_crash: AfterCrash::BeginAgain,
        replaceable: true,
        needs_processes: false,
    },
    Stage {
        phase: Phase::Staged,
        next: &[
            (Event::Stored, Phase::Starting),
            (Event::Broken, Phase::Failed),
        ],
        after_crash: AfterCrash::BeginAgain,
        replaceable: true,
        needs_processes: false,
    },
    Stage {
        phase: Phase::Starting,
        next: &[
            (Event::Started, Phase::Ready),
            (Event::Broken, Phase::Aborting),
        ],
        after_crash: AfterCrash::GoOn,
        replaceable: true,
        needs_processes: true,
    },
    Stage {
        phase: Phase::Ready,
        next: &[
            (Event::Answered, Phase::Shifting),
            (Event::AnsweredAlone, Phase::Baking),
            (Event::Broken, Phase::Aborting),
        ],
        after_crash: AfterCrash::GoOn,
        replaceable: true,
        needs_processes: true,
    },
    Stage {
        phase: Phase::Shifting,
        next: &[
            (Event::Shifted, Phase::Promoted),
            (Event::Broken, Phase::Aborting),
        ],
        after_crash: AfterCrash::GoOn,
        replaceable: false,
        needs_processes: true,
    },
    Stage {
        phase: Phase::Promoted,
        next: &[
            (Event::Flipped, Phase::Baking),
            (Event::Broken, Phase::Aborting),
        ],
        after_crash: AfterCrash::GoOn,
        replaceable: false,
        needs_processes: true,
    },
    Stage {
        phase: Phase::Baking,
        next: &[
            (Event::Baked, Phase::Committed),
            (Event::Broken, Phase::Aborting),
        ],
        after_crash: AfterCrash::GoOn,
        replaceable: false,
        needs_processes: true,
    },
    Stage {
        phase: Phase::Committed,
        next: &[(Event::Remembered, Phase::Draining)],
        after_crash: AfterCrash::GoOn,
        replaceable: false,
        needs_processes: false,
    },
    Stage {
        phase: Phase::Draining,
        next: &[(Event::Drained, Phase::Retired)],
        after_crash: AfterCrash::GoOn,
        replaceable: false,
        needs_processes: false,
    },
    Stage {
        phase: Phase::Aborting,
        next: &[
            (Event::Restored, Phase::RolledBack),
            (Event::Emptied, Phase::Failed),
        ],
        after_crash: AfterCrash::GoOn,
        replaceable: false,
        needs_processes: false,
    },
];

impl Stage {
    /// The stage of a phase; the end of a deployment, and what only a newer version knows, is none.
    pub fn of(phase: Phase) -> Option<&'static Self> {
        STAGES.iter().find(|stage| stage.phase == phase)
    }
}

impl Phase {
    /// Says whether the deployment has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Retired | Self::RolledBack | Self::Failed)
    }

    /// Says whether a newer release may take this deployment's place: no request has been moved yet.
    pub fn is_replaceable(self) -> bool {
        Stage::of(self).is_some_and(|stage| stage.replaceable)
    }

    /// Says whether the phase depends on processes of the slot, which a reboot ends.
    pub fn needs_processes(self) -> bool {
        Stage::of(self).is_some_and(|stage| stage.needs_processes)
    }
}

/// An event that cannot happen in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {event:?} is not possible while {phase}")]
pub struct Illegal {
    phase: Phase,
    event: Event,
}

/// The phase that follows `phase` upon `event`.
///
/// # Errors
/// If the table has no such way.
pub fn next(phase: Phase, event: Event) -> Result<Phase, Illegal> {
    let stage = Stage::of(phase);
    let mut ways = stage.into_iter().flat_map(|stage| stage.next);
    let way = ways.find(|(upon, _)| *upon == event);
    way.map(|(_, next)| *next).ok_or(Illegal { phase, event })
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
