//! What ends the daemon's pause between two passes: a branch that moved, a hook or webhook that calls, a signal, the time.
//!
//! News of authors and root holders calls at once. What policy servers write themselves can wait until all is quiet: it
//! matters only if it is junk, and then for freshness, which lasts for hours.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::branch::Branch;
use crate::program::bounded;
use crate::repository::Repository;
use crate::settings::Folder;

/// How long `admitted` and `fresh` must not have moved.
pub const QUIET: Duration = Duration::from_secs(3);

/// How long they may go on moving.
const UNREST: Duration = Duration::from_secs(30);

/// What somebody else wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// A branch of authors or root holders moved, or somebody says so.
    News,
    /// A branch moved that policy servers write.
    Policys,
    /// The daemon is to end.
    End,
}

/// How a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There is news.
    News,
    /// Policy servers moved branches, and have been quiet since.
    Quiet,
    /// The time is over.
    Due,
    /// The daemon is to end.
    End,
}

/// All who call.
pub struct Calls {
    receiver: Receiver<Call>,
    _watcher: RecommendedWatcher,
    unrest: Option<Unrest>,
}

/// Since when, and until when at least, policy servers are at work.
#[derive(Clone, Copy, Debug)]
struct Unrest {
    since: Instant,
    last: Instant,
}

impl Calls {
    /// Listens to signals, to the folder `writ`, and, unless it is a mirror, to the branches of `repository`.
    ///
    /// # Errors
    /// If a folder cannot be watched.
    pub fn listen(repository: &Repository, folder: &Folder) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        end_on_signals(sender.clone())?;
        let branches = repository.git.path().join("refs/heads");
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // A watcher that lost events calls too: a pass for nothing is harmless.
            let call = event.map_or(Some(Call::News), |event| call_of(&event));
            if let Some(call) = call {
                let _ = sender.send(call);
            }
        })?;
        watcher.watch(folder.path(), RecursiveMode::NonRecursive)?;
        // Only policy moves those of a mirror.
        if repository.upstream.is_none() {
            watcher.watch(&branches, RecursiveMode::Recursive)?;
            watcher.watch(repository.git.path(), RecursiveMode::NonRecursive)?;
        }
        Ok(Self {
            receiver,
            _watcher: watcher,
            unrest: None,
        })
    }

    /// Notes that policy servers moved branches now.
    pub fn unrest(&mut self) {
        let now = Instant::now();
        let since = self.unrest.map_or(now, |unrest| unrest.since);
        self.unrest = Some(Unrest { since, last: now });
    }

    /// Notes that a pass has seen what they moved.
    pub fn settled(&mut self) {
        self.unrest = None;
    }

    /// Waits for a call, for quiet, or until `rest` is over. One wake answers all calls that came before it.
    ///
    /// # Errors
    /// If the watch ended.
    pub fn next(&mut self, rest: Duration) -> anyhow::Result<Wake> {
        let due = Instant::now().checked_add(rest);
        loop {
            let quiet = self.unrest.map(Unrest::ends);
            let until = match (due, quiet) {
                (Some(due), Some(quiet)) => Some(due.min(quiet)),
                (due, quiet) => due.or(quiet),
            };
            let left = until.map_or(UNREST, |until| {
                until.saturating_duration_since(Instant::now())
            });
            let call = match self.receiver.recv_timeout(left) {
                Ok(call) => call,
                Err(RecvTimeoutError::Disconnected) => bail!("the watch ended"),
                Err(RecvTimeoutError::Timeout) if quiet.is_some() && until == quiet => {
                    return Ok(Wake::Quiet);
                }
                Err(RecvTimeoutError::Timeout) if until.is_none() => continue,
                Err(RecvTimeoutError::Timeout) => return Ok(Wake::Due),
            };
            let mut calls: Vec<_> = self.receiver.try_iter().collect();
            calls.push(call);
            if calls.contains(&Call::End) {
                return Ok(Wake::End);
            }
            if calls.contains(&Call::News) {
                // Whoever calls all the time must not keep it from what waits for quiet.
                return Ok(match quiet.is_some_and(|quiet| quiet <= Instant::now()) {
                    true => Wake::Quiet,
                    false => Wake::News,
                });
            }
            self.unrest();
        }
    }
}

impl Unrest {
    fn ends(self) -> Instant {
        (self.last + QUIET).min(self.since + UNREST)
    }
}

/// Lets SIGTERM and SIGINT end the daemon after the pass that it is in, and soon what git does for that.
fn end_on_signals(sender: Sender<Call>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut ends = signals.forever().map(|_| {
            bounded::interrupt();
            sender.send(Call::End)
        });
        ends.all(|sent| sent.is_ok())
    });
    Ok(())
}

/// Who calls by `event`, if anybody does. What a pass itself writes in `writ` is no call.
fn call_of(event: &Event) -> Option<Call> {
    let changed = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
    );
    let calls = event.paths.iter().filter_map(|path| call_from(path));
    // News comes first.
    let mut calls: Vec<_> = calls.filter(|_| changed).collect();
    calls.sort_by_key(|call| *call != Call::News);
    calls.first().copied()
}

fn call_from(path: &Path) -> Option<Call> {
    let name = path.file_name()?;
    if name == "packed-refs" || name == "wake" {
        return Some(Call::News);
    }
    // An approval lies in folders below the other branches.
    let branches: Option<PathBuf> = path
        .ancestors()
        .skip(1)
        .find(|folder| folder.ends_with("refs/heads"))
        .map(Path::to_owned);
    let branch = path.strip_prefix(branches?).ok()?;
    if path.extension().is_some_and(|lock| lock == "lock") {
        return None;
    }
    let is = |one: Branch| branch == Path::new(one.as_str());
    Some(match is(Branch::Admitted) || is(Branch::Fresh) {
        true => Call::Policys,
        false => Call::News,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_calls_at_once_and_what_policy_writes_when_all_is_quiet() {
        let call = |path: &str| call_from(Path::new(path));
        for path in [
            "/r.git/refs/heads/main",
            "/r.git/refs/heads/trust",
            "/r.git/refs/heads/approvals/dev/web/bob",
            "/r.git/refs/heads/approvals/dev/web/fresh",
            "/r.git/packed-refs",
            "/r.git/writ/wake",
        ] {
            assert_eq!(call(path), Some(Call::News), "{path}");
        }
        for path in ["/r.git/refs/heads/admitted", "/r.git/refs/heads/fresh"] {
            assert_eq!(call(path), Some(Call::Policys), "{path}");
        }
        for path in [
            "/r.git/refs/heads/main.lock",
            "/r.git/writ/lock",
            "/r.git/writ/signed",
            "/r.git/HEAD",
        ] {
            assert_eq!(call(path), None, "{path}");
        }
    }

    #[test]
    fn unrest_ends_with_quiet_or_after_a_while() {
        let since = Instant::now();
        let ends = |after: Duration| {
            Unrest {
                since,
                last: since + after,
            }
            .ends()
                - since
        };
        assert_eq!(ends(Duration::ZERO), QUIET);
        assert_eq!(
            ends(Duration::from_secs(10)),
            Duration::from_secs(10) + QUIET
        );
        assert_eq!(ends(Duration::from_secs(3600)), UNREST);
    }
}
