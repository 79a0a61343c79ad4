//! Moves of refs whose locks can be told from everybody else's, for a repository that git processes move refs in too.
//!
//! A process that is killed leaves the locks `<ref>.lock` that it held. Whose they are nobody can see, so whoever comes
//! next must leave them alone: git may be about to rename one into place. Here a lock is therefore a second name of a
//! file in the mover's own folder. That file is made, and durable, before the ref is locked; its inode cannot be given to
//! another file while the mover's name is there. So the next mover, who has the folder to itself, takes back exactly
//! what a dead one left, and at once.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::slice;
use std::thread;
use std::time::Duration;

use super::{Git, RefUpdate, unusable};
use crate::digest::ObjectId;
use crate::{Code, Refusal};

/// How often a lock that somebody else holds is asked for, and the pause before the next time: 100 ms, as git waits.
const ASKED: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Moves the refs of a repository; there is one at a time for its folder.
pub struct Mover<'a> {
    git: &'a Git,
    folder: PathBuf,
}

impl<'a> Mover<'a> {
    /// A mover whose own names of its locks lie in `folder`, on the file system of the refs.
    pub fn new(git: &'a Git, folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self { git, folder }
    }

    /// Moves all refs, in this order, or none if one of them does not point at what is expected, like
    /// [`Git::transaction`]; nothing is deleted.
    ///
    /// # Errors
    /// Those of [`Git::transaction`].
    pub fn transaction(&self, updates: &[RefUpdate]) -> Result<(), Refusal> {
        for update in updates {
            self.write(update)?;
        }
        // The objects, and which locks are about to be ours.
        self.git.sync()?;
        let moved = self.lock(updates).and_then(|()| self.rename(updates));
        for update in updates {
            self.take_back(&update.name)?;
        }
        moved?;
        self.git.sync()
    }

    /// Removes the locks of `names` that a mover held when it was killed. What it had moved may not be durable yet.
    ///
    /// # Errors
    /// `REPOSITORY_UNUSABLE`.
    pub fn recover(&self, names: &[impl AsRef<str>]) -> Result<(), Refusal> {
        names
            .iter()
            .try_for_each(|name| self.take_back(name.as_ref()))
    }

    /// Writes what the ref is to hold.
    fn write(&self, update: &RefUpdate) -> Result<(), Refusal> {
        let own = self.own(&update.name);
        let Some(new) = update.new else {
            let detail = format!("'{}' is to be moved, not deleted", update.name);
            return Err(Refusal::new(Code::RepositoryUnsupported, detail));
        };
        self.take_back(&update.name)?;
        // A new file each time: the one before may be the ref by now.
        let file = OpenOptions::new().write(true).create_new(true).open(&own);
        file.and_then(|mut file| writeln!(file, "{new}"))
            .map_err(|error| unusable(&own, &error))
    }

    /// Locks all refs and compares them with what is expected.
    fn lock(&self, updates: &[RefUpdate]) -> Result<(), Refusal> {
        for update in updates {
            let lock = self.git.lock_path(&update.name);
            if let Some(folder) = lock.parent() {
                fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
            }
            match link(&self.own(&update.name), &lock) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(self.git.lost_or_unusable(slice::from_ref(update), &error));
                }
                Err(error) => return Err(unusable(&lock, &error)),
            }
        }
        for RefUpdate { name, expected, .. } in updates {
            let found = self.git.resolve(name)?;
            if found != *expected {
                return Err(lost(name, found, *expected));
            }
        }
        Ok(())
    }

    fn rename(&self, updates: &[RefUpdate]) -> Result<(), Refusal> {
        for RefUpdate { name, .. } in updates {
            let path = self.git.path().join(name);
            fs::rename(self.git.lock_path(name), &path).map_err(|error| unusable(&path, &error))?;
        }
        Ok(())
    }

    /// Removes the lock of the ref `name` if it is ours, then our own name of it.
    fn take_back(&self, name: &str) -> Result<(), Refusal> {
        let (own, lock) = (self.own(name), self.git.lock_path(name));
        let Some(held) = inode(&own)? else {
            return Ok(());
        };
        if inode(&lock)? == Some(held) {
            fs::remove_file(&lock).map_err(|error| unusable(&lock, &error))?;
        }
        fs::remove_file(&own).map_err(|error| unusable(&own, &error))
    }

    /// Our own name of the lock of the ref `name`; a mover's refs differ in more than `-` and `/`.
    fn own(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.lock", name.replace('/', "-")))
    }
}

impl Git {
    /// Where the lock of the ref `name` lies, for git too.
    pub(super) fn lock_path(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.lock"))
    }
}

/// Says that a ref moved meanwhile.
pub(super) fn lost(name: &str, found: Option<ObjectId>, expected: Option<ObjectId>) -> Refusal {
    let shown = |id: Option<ObjectId>| id.map_or("nothing".into(), |id| id.to_string());
    let (found, expected) = (shown(found), shown(expected));
    let detail = format!("'{name}' is at {found}, expected {expected}");
    Refusal::new(Code::LostRace, detail)
}

/// Gives the file `own` the name `lock` too, which waits a moment if that is taken.
fn link(own: &Path, lock: &Path) -> io::Result<()> {
    for _ in 1..ASKED {
        match fs::hard_link(own, lock) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => thread::sleep(PAUSE),
            linked => return linked,
        }
    }
    fs::hard_link(own, lock)
}

/// Which file `path` is; `None` if there is none.
fn inode(path: &Path) -> Result<Option<(u64, u64)>, Refusal> {
    match fs::symlink_metadata(path) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    const A: &str = "refs/heads/a";
    const B: &str = "refs/heads/b";

    struct World {
        folder: tempfile::TempDir,
        git: Git,
        ids: [ObjectId; 2],
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let git = Git::init_bare(&folder.path().join("r.git")).unwrap();
            let ids = [&b"one"[..], b"two"].map(|bytes| git.write(Kind::Blob, bytes).unwrap());
            Self { folder, git, ids }
        }

        fn mover(&self) -> Mover<'_> {
            Mover::new(&self.git, self.folder.path())
        }

        fn refs(&self) -> [Option<ObjectId>; 2] {
            [A, B].map(|name| self.git.resolve(name).unwrap())
        }

        /// No lock is left, and nothing in the mover's folder.
        fn is_tidy(&self) -> bool {
            let own = fs::read_dir(self.folder.path()).unwrap().count() == 1;
            own && ![A, B].iter().any(|name| self.git.lock_path(name).exists())
        }
    }

    fn moving(name: &str, expected: Option<ObjectId>, new: ObjectId) -> RefUpdate {
        RefUpdate {
            name: name.to_owned(),
            expected,
            new: Some(new),
        }
    }

    #[test]
    fn refs_move_together_or_not_at_all() {
        let world = World::new();
        let [one, two] = world.ids;
        let begin = [moving(A, None, one), moving(B, None, one)];
        world.mover().transaction(&begin).unwrap();
        let packed = std::process::Command::new("git")
            .args(["pack-refs", "--all"])
            .current_dir(world.git.path())
            .status()
            .unwrap();
        assert!(packed.success());
        for wrong in [None, Some(two)] {
            let lost = [moving(A, Some(one), two), moving(B, wrong, two)];
            let refusal = world.mover().transaction(&lost).unwrap_err();
            assert_eq!(refusal.code, Code::LostRace);
            assert!(refusal.detail.contains(B), "{refusal}");
            assert_eq!(world.refs(), [Some(one), Some(one)]);
            assert!(world.is_tidy());
        }
        let on = [moving(A, Some(one), two), moving(B, Some(one), two)];
        world.mover().transaction(&on).unwrap();
        assert_eq!(world.refs(), [Some(two), Some(two)]);
        assert!(world.is_tidy());
    }

    #[test]
    fn the_locks_of_a_dead_mover_are_taken_back_and_those_of_git_are_not() {
        let world = World::new();
        let [one, two] = world.ids;
        let begin = [moving(A, None, one), moving(B, None, one)];
        world.mover().transaction(&begin).unwrap();
        let on = [moving(A, Some(one), two), moving(B, Some(one), two)];
        // Killed with both refs locked.
        let dead = || on.iter().for_each(|one| world.mover().write(one).unwrap());
        dead();
        world.mover().lock(&on).unwrap();
        world.mover().recover(&[A, B]).unwrap();
        assert!(world.is_tidy());
        assert_eq!(world.refs(), [Some(one), Some(one)]);
        // Git holds one: what the dead mover left of the other is all that goes.
        fs::write(world.git.lock_path(B), "").unwrap();
        dead();
        world.mover().lock(&on).unwrap_err();
        world.mover().recover(&[A, B]).unwrap();
        assert!(!world.git.lock_path(A).exists() && world.git.lock_path(B).exists());
        let refusal = world.mover().transaction(&on).unwrap_err();
        assert_eq!(refusal.code, Code::LostRace);
        assert!(refusal.detail.contains("b.lock"), "{refusal}");
        assert_eq!(world.refs(), [Some(one), Some(one)]);
        fs::remove_file(world.git.lock_path(B)).unwrap();
        // Killed between the moves, and the next mover does not even look.
        dead();
        world.mover().lock(&on).unwrap();
        world.mover().rename(&on[..1]).unwrap();
        assert_eq!(world.refs(), [Some(two), Some(one)]);
        world.mover().transaction(&on[1..]).unwrap();
        assert_eq!(world.refs(), [Some(two), Some(two)]);
        world.mover().recover(&[A, B]).unwrap();
        assert!(world.is_tidy());
    }
}
