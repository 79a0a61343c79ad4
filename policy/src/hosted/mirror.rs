//! The mirror: a bare repository that only policy writes to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use state::Refusal;
use state::git::Git;

use super::BRANCHES;
use super::remote::Remote;
use crate::settings::{Folder, Settings};

/// After this time a lock is nobody's: git moves refs within milliseconds, and a mirror has no other writer.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Makes the mirror of `remote` at `path` if it is missing; the settings remember `remote`.
///
/// # Errors
/// If there is a repository that is no mirror.
pub(crate) fn make(path: &Path, remote: &str) -> anyhow::Result<()> {
    let folder = Folder::of(path);
    let settings = folder.settings()?;
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
    Ok(())
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
