//! `policy run REPO`: the daemon. Admits what waited when its time comes, renews `fresh`, wakes when a branch moves.
//!
//! It may be killed at any moment: every pass completes what the one before left half done. Several may serve one
//! repository: all of them wake, and a pass has the repository to itself.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Exit, admit};
use crate::admit::Admitter;
use crate::repository::Repository;
use crate::settings::Folder;

/// When a pass that failed is tried again, if nothing moves before.
const RETRY: Duration = Duration::from_secs(60);

/// Admit what waits at its time and keep the log fresh, until SIGTERM or SIGINT. Several may serve one repository.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The bare repository that is served.
    repository: PathBuf,
    /// The policy key; by default the one named in REPO/writ/policy.yaml.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// What a pause between passes ends with.
enum Call {
    /// A branch moved, or a hook calls.
    Pass,
    /// The daemon is to end.
    End,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let path = args
        .repository
        .canonicalize()
        .with_context(|| format!("cannot find '{}'", args.repository.display()))?;
    let repository = Repository::served(&path)?;
    let folder = Folder::of(&path);
    let admitter = Admitter {
        repository: &repository,
        folder: &folder,
        key: &folder.key(args.key.as_deref())?,
    };
    let (sender, calls) = mpsc::channel();
    end_on_signals(sender.clone())?;
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A watcher that lost events wakes too: a pass for nothing is harmless.
        if event.map_or(true, |event| is_wake(&event)) {
            let _ = sender.send(Call::Pass);
        }
    })?;
    watcher.watch(&path.join("refs/heads"), RecursiveMode::Recursive)?;
    watcher.watch(&path, RecursiveMode::NonRecursive)?;
    watcher.watch(folder.path(), RecursiveMode::NonRecursive)?;
    outln!("serving '{}'", path.display());
    loop {
        let rest = pass(&admitter);
        match next_call(&calls, rest) {
            Ok(Call::Pass) => {}
            Ok(Call::End) => return Ok(Exit::Done),
            Err(_) => bail!("the watch on '{}' ended", path.display()),
        }
    }
}

/// Lets SIGTERM and SIGINT end the daemon after the pass that it is in.
fn end_on_signals(sender: Sender<Call>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut ends = signals.forever().map(|_| sender.send(Call::End));
        ends.all(|sent| sent.is_ok())
    });
    Ok(())
}

/// Waits for a call, or until `rest` is over. One pass answers all calls that came before it.
fn next_call(calls: &Receiver<Call>, rest: Duration) -> Result<Call, RecvTimeoutError> {
    let mut next = match calls.recv_timeout(rest) {
        Err(RecvTimeoutError::Timeout) => Call::Pass,
        called => called?,
    };
    while let (Call::Pass, Ok(call)) = (&next, calls.try_recv()) {
        next = call;
    }
    Ok(next)
}

/// Says whether a branch moved or a hook calls. What a pass itself writes in `writ` is neither.
fn is_wake(event: &Event) -> bool {
    let changed = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
    );
    let wakes = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        // An approval lies in folders below the other branches.
        let mut above = path.ancestors().skip(1);
        let branch = above.any(|folder| folder.ends_with("refs/heads"));
        (branch && path.extension().is_none_or(|lock| lock != "lock"))
            || name == "packed-refs"
            || name == "wake"
    };
    changed && event.paths.iter().any(wakes)
}

/// Does one pass and says how long nothing is due after it.
fn pass(admitter: &Admitter<'_>) -> Duration {
    let now = Timestamp::now();
    match admitter.pass(now) {
        Ok(pass) => {
            admit::report(&pass);
            let due = pass.next(now).duration_since(Timestamp::now());
            Duration::try_from(due).unwrap_or_default()
        }
        Err(refusal) => {
            super::refused(&[refusal]);
            RETRY
        }
    }
}
