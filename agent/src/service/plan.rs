//! What is to be done for a service, from what is wanted and what the record says. Pure; the time is an argument.

use jiff::Timestamp;
use state::digest::ReleaseId;
use state::service::DesiredState;
use state::{Code, Refusal};

use crate::config::Limits;
use crate::deployment::phase::Phase;
use crate::deployment::record::{Kept, ManualHold, Record};

/// What the last intake wants of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The admitted release.
    pub release: ReleaseId,
    /// Whether it runs; `Absent` also if `place` does not select this host any more.
    pub state: DesiredState,
}

/// What is to be done for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// What runs is what is wanted.
    Keep,
    /// Goes on with the deployment that is under way.
    Continue,
    /// Breaks the deployment under way off, because of this.
    Abort(Refusal),
    /// Builds and brings a release live.
    Deploy {
        /// What runs now.
        from: Option<ReleaseId>,
        /// What shall run.
        to: ReleaseId,
    },
    /// Brings a release live that this host keeps.
    Return {
        /// What runs now.
        from: Option<ReleaseId>,
        /// What shall run.
        to: Kept,
    },
    /// Stops the processes; everything on disk stays.
    Stop,
    /// Stops the processes and removes the service; its data folder stays.
    Remove,
    /// Does nothing until somebody decides.
    Held(Refusal),
    /// Does nothing until a time.
    Waiting {
        /// Until when.
        until: Timestamp,
        /// Why.
        why: Refusal,
    },
}

impl Action {
    /// Says whether nothing is left to do by itself now.
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Keep | Self::Held(_) | Self::Waiting { .. })
    }

    /// Says whether, after a start of the agent, this waits until the remotes were asked once: what the agent knew
    /// before may be held by now. What an operator went back to needs nobody's word.
    pub fn needs_word(&self, record: &Record) -> bool {
        match self {
            Self::Deploy { .. } | Self::Stop | Self::Remove => true,
            Self::Continue => record.active().is_some_and(|deployment| {
                matches!(deployment.phase, Phase::Starting | Phase::Ready)
                    && !is_rollback(record, deployment.to.release)
            }),
            _ => false,
        }
    }
}

/// Decides for one service. Without a wish nothing is inferred: what runs stays, and what was begun goes on; only a
/// rollback on this host needs nobody else's word.
pub fn decide(wish: Option<Wish>, record: &Record, limits: &Limits, now: Timestamp) -> Action {
    let wish = wish.or_else(|| rollback_wish(record));
    if let Some(deployment) = record.active() {
        let phase = deployment.phase;
        // Once requests have moved, only an operator who goes back ends the bake: the old release is still there.
        let may_abort = phase.is_replaceable() || phase == Phase::Baking && goes_back(wish, record);
        return match reason_to_abort(wish, record, deployment.to.release) {
            Some(reason) if may_abort => Action::Abort(reason),
            _ => Action::Continue,
        };
    }
    let Some(wish) = wish else {
        return Action::Keep;
    };
    match wish.state {
        DesiredState::Absent if record.is_blank() => return Action::Keep,
        DesiredState::Absent => return Action::Remove,
        DesiredState::Stopped if record.slots.is_empty() => return Action::Keep,
        DesiredState::Stopped => return Action::Stop,
        DesiredState::Running => {}
    }
    let running = record.stable().map(|(_, occupant)| occupant.kept.release);
    let target = target(wish, record);
    if running == Some(target.release()) {
        return Action::Keep;
    }
    if matches!(record.manual, Some(ManualHold::Frozen { .. })) {
        let detail = format!("release {} waits: held on this host", wish.release.short());
        return Action::Held(Refusal::new(Code::Held, detail));
    }
    if let Some(hold) = &record.failed
        && hold.release == target.release()
    {
        return Action::Held(hold.failure.refusal.clone());
    }
    if let Some(postponed) = &record.postponed
        && postponed.release == target.release()
        && postponed.left(now).is_some()
    {
        return Action::Waiting {
            until: postponed.until,
            why: postponed.failure.refusal.clone(),
        };
    }
    if let Target::Admitted(to) = target
        && !was_good(record, to)
        && let Some((until, why)) = limits.wait(&record.begun, now)
    {
        return Action::Waiting { until, why };
    }
    match target {
        Target::Admitted(to) => Action::Deploy { from: running, to },
        Target::Kept(to) => Action::Return {
            from: running,
            to: to.clone(),
        },
    }
}

/// What shall run: the admitted release, or the one that an operator went back to.
enum Target<'a> {
    Admitted(ReleaseId),
    Kept(&'a Kept),
}

impl Target<'_> {
    const fn release(&self) -> ReleaseId {
        match self {
            Self::Admitted(release) => *release,
            Self::Kept(kept) => kept.release,
        }
    }
}

fn target(wish: Wish, record: &Record) -> Target<'_> {
    match &record.manual {
        Some(ManualHold::RolledBack { from, to, .. }) if *from == wish.release => Target::Kept(to),
        _ => Target::Admitted(wish.release),
    }
}

/// Says whether an operator went back from what is wished for.
fn goes_back(wish: Option<Wish>, record: &Record) -> bool {
    wish.is_some_and(|wish| matches!(target(wish, record), Target::Kept(_)))
}

/// The release that was held by a rollback, if it is the one that was last admitted.
fn rollback_wish(record: &Record) -> Option<Wish> {
    let Some(ManualHold::RolledBack { from, .. }) = &record.manual else {
        return None;
    };
    let state = DesiredState::Running;
    (record.desired == Some(*from)).then_some(Wish {
        release: *from,
        state,
    })
}

/// Says whether `release` was live and good here: to bring it back is to repair, and no limit delays that.
fn was_good(record: &Record, release: ReleaseId) -> bool {
    let mut good = record.last_good.iter().chain(&record.previous_good);
    good.any(|kept| kept.release == release)
}

/// Says whether an operator of this host went back to `release`.
fn is_rollback(record: &Record, release: ReleaseId) -> bool {
    matches!(&record.manual, Some(ManualHold::RolledBack { to, .. }) if to.release == release)
}

/// Why a deployment that was taken up after a start of the agent should not go on, once the remotes were asked: nobody
/// says any more that its release is wanted, and nothing new starts then. One whose requests have moved goes on.
pub fn reason_to_give_up(wish: Option<Wish>, record: &Record) -> Option<Refusal> {
    let deployment = record.active()?;
    let release = deployment.to.release;
    let goes_on =
        wish.is_some() || !deployment.phase.is_replaceable() || is_rollback(record, release);
    (!goes_on).then(|| {
        let detail = format!(
            "after a start of the agent nothing says that release {} is still wanted",
            release.short()
        );
        Refusal::new(Code::Stale, detail)
    })
}

/// Why the deployment of `deploying` should not go on.
fn reason_to_abort(wish: Option<Wish>, record: &Record, deploying: ReleaseId) -> Option<Refusal> {
    if matches!(record.manual, Some(ManualHold::Frozen { .. })) {
        return Some(Refusal::new(Code::Held, "held on this host"));
    }
    let wish = wish?;
    if wish.state != DesiredState::Running {
        let detail = "the service is to stand still or to leave";
        return Some(Refusal::new(Code::Superseded, detail));
    }
    let target = target(wish, record).release();
    (target != deploying).then(|| {
        let detail = format!("by release {}", target.short());
        Refusal::new(Code::Superseded, detail)
    })
}

#[cfg(test)]
mod tests;
