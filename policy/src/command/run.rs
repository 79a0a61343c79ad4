//! `policy run REPO`: the daemon. Admits what waited when its time comes, renews `fresh`, wakes when a branch moves.
//!
//! It may be killed at any moment: every pass completes what the one before left half done.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use notify::{Event, EventKind, RecursiveMode, Watcher as _};

use super::{Exit, admit};
use crate::admit::Admitter;
use crate::repository::Repository;
use crate::settings::Folder;

/// When a pass that failed is tried again, if nothing moves before.
const RETRY: Duration = Duration::from_secs(60);

/// Admit what waits at its time and keep the log fresh, until killed.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The bare repository that is served.
    repository: PathBuf,
    /// The policy key; by default the one named in REPO/writ/policy.yaml.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let path = args
        .repository
        .canonicalize()
        .with_context(|| format!("cannot find '{}'", args.repository.display()))?;
    let repository = Repository::served(&path)?;
    let folder = Folder::of(&path);
    let _one = folder.lock_run()?;
    let admitter = Admitter {
        repository: &repository,
        folder: &folder,
        key: &folder.key(args.key.as_deref())?,
    };
    let (sender, moved) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A watcher that lost events wakes too: a pass for nothing is harmless.
        if event.map_or(true, |event| is_wake(&event)) {
            let _ = sender.send(());
        }
    })?;
    watcher.watch(&path.join("refs/heads"), RecursiveMode::Recursive)?;
    watcher.watch(&path, RecursiveMode::NonRecursive)?;
    watcher.watch(folder.path(), RecursiveMode::NonRecursive)?;
    outln!("serving '{}'", path.display());
    loop {
        while moved.try_recv().is_ok() {} // one pass answers all that moved before it
        let rest = pass(&admitter);
        if let Err(RecvTimeoutError::Disconnected) = moved.recv_timeout(rest) {
            bail!("the watch on '{}' ended", path.display());
        }
    }
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
