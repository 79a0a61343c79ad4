//! What to do about a hosted `main` that policy cannot judge. No hook kept the bad commit out, and once it is there only
//! further commits, or a push, get policy past it.

use state::digest::ObjectId;
use state::git::Git;

use crate::branch::Branch;
use crate::log::Log;
use crate::way_out::WayOut;

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
        // Hosts would fetch it with the merge.
        Some(good) if verified.check_side(git, &good, &bad).is_err() => WayOut::SetBack {
            name: Branch::Main.full_name(),
            good: Some(good),
            bad: Some(bad),
        },
        Some(good) => WayOut::MergeAway { good, bad },
        None => WayOut::BeginAnew,
    })
}
