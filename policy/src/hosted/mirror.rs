//! The mirror: a bare repository that only policy writes to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use state::Refusal;
use state::git::Git;

use super::BRANCHES;
use super::remote::Remote;
use crate::repository::Repository;
use crate::settings::{Folder, Settings};

/// After this time a lock is nobody's: git moves refs within milliseconds, and a mirror has no other writer.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Opens the repository at `path` that policy works on: the served one, or, where `remote` or its settings name the
/// remote, a mirror. A missing mirror is made, and the settings remember `remote`.
///
/// # Errors
/// If there is a repository that is no mirror.
pub fn open(path: &Path, remote: Option<&str>) -> anyhow::Result<Repository> {
    let folder = Folder::of(path);
    let settings = folder.settings()?;
    let Some(remote) = remote.or(settings.remote.as_deref()) else {
        return Repository::served(path);
    };
    let said = Settings {
        remote: Some(remote.to_owned()),
        ..settings.clone()
    };
    let remote_of = Remote::new(remote, path, &said)?;
    refuse_hooks(path, remote)?;
    let is_empty = !path.exists() || fs::read_dir(path)?.next().is_none();
    if !is_empty && settings.remote.is_none() && !path.join("HEAD").is_file() {
        bail!(
            "'{}' is neither empty nor a bare repository",
            path.display()
        );
    }
    remote_of.init()?;
    let git = Git::open(path)?;
    if settings.remote.is_none() {
        for branch in BRANCHES {
            if git.resolve(&branch.full_name())?.is_some() {
                bail!(
                    "'{}' has a branch '{}' of its own: a mirror of '{remote}' needs a folder of its own",
                    path.display(),
                    branch.as_str()
                );
            }
        }
    }
    if settings != said {
        folder.create()?;
        folder.save_settings(&said)?;
    }
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot find '{}'", path.display()))?;
    Repository::served(&path)
}

/// Refuses a repository that is pushed to as the mirror of another: one fleet has one truth.
pub(crate) fn refuse_hooks(path: &Path, remote: &str) -> anyhow::Result<()> {
    for name in ["pre-receive", "post-receive"] {
        let hook = path.join("hooks").join(name);
        if fs::read(&hook).is_ok_and(|bytes| crate::settings::is_our_hook(&bytes)) {
            bail!(
                "'{}' was installed by policy: people push to this repository, so it cannot be the mirror of '{remote}'; \
                 give the mirror a folder of its own, or remove the hooks",
                hook.display()
            );
        }
    }
    Ok(())
}

/// Says whether a fetch that was cut off left `bytes` bytes of a pack in the mirror at `path`.
pub(super) fn holds_part_of(path: &Path, bytes: u64) -> bool {
    let entries = fs::read_dir(path.join("objects/pack")).into_iter();
    entries.flatten().flatten().any(|entry| {
        let is_part = entry.file_name().to_string_lossy().starts_with("tmp_");
        is_part && entry.metadata().is_ok_and(|file| file.len() >= bytes)
    })
}

/// Removes what runs of git left behind that were killed: parts of packs, and locks.
pub(super) fn sweep(git: &Git) -> Result<(), Refusal> {
    git.sweep()?;
    remove_locks(&git.path().join("refs"));
    remove_lock(&git.path().join("packed-refs.lock"));
    Ok(())
}

fn remove_locks(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => remove_locks(&path),
            Ok(_) if path.extension().is_some_and(|lock| lock == "lock") => remove_lock(&path),
            _ => {}
        }
    }
}

/// Removes an old lock; one that stays is named by whoever runs into it.
fn remove_lock(path: &Path) {
    let modified = path.metadata().and_then(|status| status.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age >= LEFT_BEHIND) {
        let _ = fs::remove_file(path);
    }
}
