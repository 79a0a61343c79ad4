//! The mirror of one remote: a bare repository that holds what this remote sent and nothing else, so that what a
//! hostile remote sends is never read in another's name. Only the agent writes there; what no fetch of ours leaves behind
//! makes it damaged, and a damaged mirror is moved aside.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use state::git::repack::{PACKS, packs};
use state::{Code, Refusal};

use crate::disk::failed;

/// What would have git read objects from elsewhere, or read others than were sent. No fetch of ours makes any of it.
const PLANTED: [&str; 7] = [
    "commondir",
    "gitdir",
    "shallow",
    "info/grafts",
    "objects/info/alternates",
    "objects/info/http-alternates",
    "refs/replace",
];

/// What must lie in the mirror itself, so that a link cannot lead to another's.
const OWN: [&str; 4] = ["objects", "objects/pack", "refs", "refs/verified"];

/// The mirror of one remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    path: PathBuf,
}

impl Mirror {
    /// The mirror in the folder `path`, which need not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says whether anything lies there.
    pub(crate) fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok()
    }

    /// Refuses what no fetch of ours has made.
    ///
    /// # Errors
    /// `REPOSITORY_UNSUPPORTED`.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let planted = |path: &Path, what: &str| {
            let detail = format!("'{}' {what}", path.display());
            Err(Refusal::new(Code::RepositoryUnsupported, detail))
        };
        let inside = OWN.iter().map(|name| self.path.join(name));
        for path in std::iter::once(self.path.clone()).chain(inside) {
            if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
                return planted(&path, "is no folder");
            }
        }
        for name in PLANTED {
            let path = self.path.join(name);
            if fs::symlink_metadata(&path).is_ok() {
                return planted(&path, "exists");
            }
        }
        let packed = self.path.join("packed-refs");
        match fs::read(&packed) {
            Ok(refs) if holds(&refs, b" refs/replace/") => {
                return planted(&packed, "holds replace refs");
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return planted(&packed, &format!("cannot be read: {error}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// After a fetch that brought a pack: has a process of its own, `program`, make one of all packs once there are many.
    /// Blocks. What goes wrong is tried again when as many more have come.
    pub(crate) fn pack(&self, program: &Path) {
        let count = packs(&self.path);
        if count == 0 || !count.is_multiple_of(PACKS) {
            return;
        }
        let mut command = Command::new(program);
        command.arg("repack").arg(&self.path).process_group(0);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !status.as_ref().is_ok_and(|status| status.success()) {
            tracing::warn!(?status, mirror = %self.path.display(), "its packs stay many");
        }
    }

    /// Moves the mirror aside, in place of one that was moved aside before, and says where it lies now.
    ///
    /// # Errors
    /// `STATE_UNSAFE` if it cannot be moved.
    pub(crate) fn move_aside(&self) -> Result<PathBuf, Refusal> {
        let aside = self.path.with_extension("damaged");
        match fs::symlink_metadata(&aside) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&aside),
            Ok(_) => fs::remove_file(&aside),
            Err(_) => Ok(()),
        }
        .and_then(|()| fs::rename(&self.path, &aside))
        .map_err(|error| failed(&self.path, &error))?;
        Ok(aside)
    }

    /// Takes over the mirror of an agent that had one for all remotes.
    pub(crate) fn inherit(&self, old: &Path) {
        if self.exists() || fs::symlink_metadata(old).is_err() {
            return;
        }
        // Without it everything is fetched anew.
        if let Err(error) = fs::rename(old, &self.path) {
            tracing::warn!(%error, "cannot take over '{}'", old.display());
        }
    }
}

/// Removes from `folder` what belongs to none of `mirrors`: what was fetched from remotes that are not asked any more.
pub(crate) fn forget_others(folder: &Path, mirrors: &[Mirror]) {
    let kept = |path: &Path| {
        let stem = path.file_stem();
        mirrors.iter().any(|mirror| mirror.path.file_stem() == stem)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if kept(&path) {
            continue;
        }
        // Nothing reads it; it only takes space.
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(%error, "cannot remove '{}'", path.display());
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::git::Git;

    fn mirror(dir: &Path) -> Mirror {
        let mirror = Mirror::new(dir.join("a.git"));
        Git::init_bare(mirror.path()).unwrap();
        mirror.check().unwrap();
        mirror
    }

    #[test]
    fn whatever_would_redirect_reading_is_refused() {
        for name in PLANTED {
            let dir = tempfile::tempdir().unwrap();
            let mirror = mirror(dir.path());
            let path = mirror.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "../b.git\n").unwrap();
            let refusal = mirror.check().unwrap_err();
            assert_eq!(refusal.code, Code::RepositoryUnsupported, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let mirror = mirror(dir.path());
        let refs = format!("{0} refs/replace/{0}\n", "ab".repeat(20));
        fs::write(mirror.path().join("packed-refs"), refs).unwrap();
        assert_eq!(
            mirror.check().unwrap_err().code,
            Code::RepositoryUnsupported
        );
    }

    #[test]
    fn a_mirror_that_leads_to_another_is_refused() {
        for name in ["", "objects", "objects/pack"] {
            let dir = tempfile::tempdir().unwrap();
            let mirror = mirror(dir.path());
            let path = match name {
                "" => mirror.path().to_owned(),
                name => mirror.path().join(name),
            };
            let other = dir.path().join("other");
            fs::rename(&path, &other).unwrap();
            std::os::unix::fs::symlink(&other, &path).unwrap();
            let refusal = mirror.check().unwrap_err();
            assert_eq!(refusal.code, Code::RepositoryUnsupported, "{name}");
        }
    }

    #[test]
    fn only_one_damaged_mirror_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for round in ["first", "second"] {
            let mirror = mirror(dir.path());
            fs::write(mirror.path().join("HEAD"), round).unwrap();
            let aside = mirror.move_aside().unwrap();
            assert!(!mirror.exists());
            assert_eq!(fs::read_to_string(aside.join("HEAD")).unwrap(), round);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn mirrors_of_remotes_that_are_not_asked_any_more_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = mirror(dir.path());
        for name in ["a.damaged", "b.git", "b.damaged"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        forget_others(dir.path(), &[kept]);
        let left = fs::read_dir(dir.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.damaged", "a.git"]);
    }
}
