//! What a person can do about a branch that policy cannot go on with, as commands.

use std::fmt;

use state::Refusal;
use state::digest::ObjectId;

/// A branch of a remote that nobody can go on with, and that is left alone: the last good state of it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// What is wrong with it.
    pub refusal: Refusal,
    /// How it is put right.
    pub way_out: WayOut,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way_out {
            WayOut::SetBack { name, .. } => write!(f, "on `{name}`: {}", self.way_out),
            other => other.fmt(f),
        }
    }
}

/// What a person can do, and with which commits. Displays as the commands to run in a clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// `main` was set back or deleted: what was on it is pushed again.
    PushAgain {
        /// The newest commit of `main` that was admitted.
        good: ObjectId,
    },
    /// A commit is bad for ever: it is merged away.
    MergeAway {
        /// The newest commit of `main` up to which all is good.
        good: ObjectId,
        /// The tip.
        bad: ObjectId,
    },
    /// What was pushed cannot even be merged away: the branch is set back by force.
    SetBack {
        /// The branch's full name.
        name: String,
        /// The newest commit of it up to which all is good; `None` if there is none: the branch goes.
        good: Option<ObjectId>,
        /// The tip; `None` if the branch is gone.
        bad: Option<ObjectId>,
    },
    /// Not even the first commit is good, and nothing was admitted yet.
    BeginAnew,
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PushAgain { good } => writeln!(
                f,
                "bring back what was admitted, in a clone:\n    \
                   git fetch origin\n    \
                   git push origin {good}:refs/heads/main"
            ),
            Self::MergeAway { good, bad } => writeln!(
                f,
                "leave it behind. An author who may change everything runs, in a clone:\n    \
                   git fetch origin\n    \
                   git switch --detach {good}\n    \
                   git merge -s ours --no-edit --allow-unrelated-histories -S {bad}\n    \
                   git push origin HEAD:refs/heads/main\n\
                 {good} is the last good commit: `main` goes on with its content, what came after it is made again"
            ),
            Self::SetBack { name, good, bad } => {
                let id = |id: &Option<ObjectId>| id.map(|id| id.to_string()).unwrap_or_default();
                let (good, bad) = (id(good), id(bad));
                writeln!(
                    f,
                    "set it back. Who may push there by force runs, in a clone that has what was good:\n    \
                       git push --force-with-lease={name}:{bad} origin {good}:{name}\n\
                     what came after it is made again, without what was refused"
                )
            }
            Self::BeginAnew => writeln!(
                f,
                "no commit of `main` is good, and nothing was admitted: push another `main` in its place, every commit \
                 signed by an author"
            ),
        }
    }
}
