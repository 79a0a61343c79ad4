//! What to do about a hosted `main` that policy cannot judge. No hook kept the bad commit out, and once it is there only
//! further commits, or a push, get policy past it.

use std::fmt;

use state::digest::ObjectId;
use state::git::Git;

use crate::log::Log;

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
    /// Not even the first commit is good, and nothing was admitted yet.
    BeginAnew,
}

/// Finds the way out of a `main` with the tip `tip`, in which not all commits since the last admission pass; `None` if
/// they do: what is wrong with the content is put right by the next commit.
pub fn find(git: &Git, log: &Log, tip: Option<ObjectId>) -> Option<WayOut> {
    let verified = log.verified();
    let last = verified.last().map(|entry| entry.manifest.author.commit);
    let Some(bad) = tip else {
        return last.map(|good| WayOut::PushAgain { good });
    };
    let good = match verified.unjudged(git, &bad) {
        Ok(mut commits) => {
            commits.reverse();
            // One that passes has only such below it.
            let passes = |commit: &ObjectId| verified.walk(git, commit).is_ok();
            let count = commits.partition_point(passes);
            if count == commits.len() {
                return None;
            }
            let newest = count.checked_sub(1).map(|at| commits[at]);
            newest.or(last)
        }
        // It does not descend from the last admission.
        Err(_) => match last {
            Some(good) if git.is_ancestor(&bad, &good).unwrap_or_default() => {
                return Some(WayOut::PushAgain { good });
            }
            last => last,
        },
    };
    Some(match good {
        Some(good) => WayOut::MergeAway { good, bad },
        None => WayOut::BeginAnew,
    })
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
            Self::BeginAnew => writeln!(
                f,
                "no commit of `main` is good, and nothing was admitted: push another `main` in its place, every commit \
                 signed by an author"
            ),
        }
    }
}
