//! Refs: read by their full name, moved together by compare-and-swap.

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};

use super::moves::lost;
use super::{Git, chain, fault, unusable};
use crate::digest::ObjectId;
use crate::{Code, Refusal};

/// After this time a ref's lock is not held any more: its process was killed. Git itself moves refs within milliseconds.
const LONGEST_MOVE: Duration = Duration::from_secs(60);

/// One move of a [`Git::transaction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// The full name, such as `refs/heads/admitted`.
    pub name: String,
    /// What the ref must point at now; `None`: it must not exist.
    pub expected: Option<ObjectId>,
    /// What it is to point at; `None`: it is deleted.
    pub new: Option<ObjectId>,
}

impl Git {
    /// What the ref with this full name points at; `None` if there is no such ref.
    pub fn resolve(&self, name: &str) -> Result<Option<ObjectId>, Refusal> {
        let full = full_name(name)?;
        let found = self.repository.refs.try_find(full.as_ref());
        let found = found.map_err(|error| unusable(self.path(), &error))?;
        match found {
            // gix also tries `refs/heads/<name>` and the like; only the very name counts.
            Some(reference) if reference.name == full => match reference.target {
                Target::Object(id) => super::object_id(&id).map(Some),
                Target::Symbolic(_) => {
                    let detail = format!("'{name}' is a symbolic ref");
                    Err(Refusal::new(Code::RepositoryUnsupported, detail))
                }
            },
            _ => Ok(None),
        }
    }

    /// What the ref with this full name points at.
    ///
    /// # Errors
    /// `REF_MISSING` if there is no such ref.
    pub fn require(&self, name: &str) -> Result<ObjectId, Refusal> {
        let missing = || format!("'{name}' in '{}'", self.path().display());
        self.resolve(name)?
            .ok_or_else(|| Refusal::new(Code::RefMissing, missing()))
    }

    /// Every ref that points at an object, by its full name.
    pub fn all(&self) -> Result<Vec<(String, ObjectId)>, Refusal> {
        let damaged = |error: gix::Error| unusable(self.path(), &error);
        let platform = self.repository.refs.iter().map_err(damaged)?;
        let mut refs = Vec::new();
        let all = platform.all();
        for found in all.map_err(|error| unusable(self.path(), &error))? {
            let found = found.map_err(damaged)?;
            if let Target::Object(id) = found.target {
                refs.push((found.name.to_string(), super::object_id(&id)?));
            }
        }
        Ok(refs)
    }

    /// Moves all refs, in this order, or none if one of them does not point at what is expected. Every object
    /// written before is made durable first, the moves themselves before this returns. A crash between two moves
    /// leaves the first of them done.
    ///
    /// # Errors
    /// `LOST_RACE` if an expectation fails or somebody else holds a ref's lock; `REPOSITORY_UNUSABLE` if nobody can hold
    /// it that long.
    pub fn transaction(&self, updates: &[RefUpdate]) -> Result<(), Refusal> {
        let edits: Vec<_> = updates.iter().map(edit).collect::<Result<_, _>>()?;
        self.sync()?;
        let moved = self.repository.edit_references_as(edits, None);
        moved.map_err(|error| self.lost_or_unusable(updates, &error))?;
        self.sync()
    }

    /// Tells a lost race from a repository that cannot be written.
    pub(super) fn lost_or_unusable(
        &self,
        updates: &[RefUpdate],
        error: &(dyn Error + 'static),
    ) -> Refusal {
        for update in updates {
            let lock = self.lock_path(&update.name);
            let (name, expected) = (&update.name, update.expected);
            let held = match self.resolve(name) {
                Ok(found) if found != expected => return lost(name, found, expected),
                Ok(_) if is_left_behind(&lock) => {
                    let lock = lock.display();
                    let detail = format!(
                        "'{lock}' was left by a git process that was killed: remove it if no git runs here"
                    );
                    return Refusal::new(Code::RepositoryUnusable, detail);
                }
                Ok(_) if lock.exists() => format!("'{}' exists", lock.display()),
                _ => continue,
            };
            return Refusal::new(Code::LostRace, held);
        }
        Refusal::new(fault(error, Code::RepositoryUnusable), chain(error))
    }

    /// Makes all that was written to the repository durable, by whomever: one call for many small files.
    pub fn sync(&self) -> Result<(), Refusal> {
        let synced = File::open(self.path()).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        synced.map_err(|error| unusable(self.path(), &error))
    }
}

/// Says whether a lock is older than any process needs to move a ref.
fn is_left_behind(lock: &Path) -> bool {
    let modified = lock.metadata().and_then(|status| status.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age >= LONGEST_MOVE)
}

/// Spells one move for gix.
fn edit(update: &RefUpdate) -> Result<RefEdit, Refusal> {
    let target = |id: ObjectId| Target::Object(id.0.into());
    let expected = match update.expected {
        Some(id) => PreviousValue::MustExistAndMatch(target(id)),
        None => PreviousValue::MustNotExist,
    };
    let change = match update.new {
        Some(id) => Change::Update {
            log: LogChange::default(),
            expected,
            new: target(id),
        },
        None => Change::Delete {
            expected,
            log: RefLog::AndReference,
        },
    };
    Ok(RefEdit {
        change,
        name: full_name(&update.name)?,
        deref: false,
    })
}

/// Parses a full ref name.
fn full_name(name: &str) -> Result<FullName, Refusal> {
    let full = FullName::try_from(name).ok();
    full.filter(|_| name == "HEAD" || name.starts_with("refs/"))
        .ok_or_else(|| Refusal::new(Code::RefMissing, format!("'{name}' is not a full ref name")))
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    const A: &str = "refs/heads/a";
    const B: &str = "refs/heads/b";

    fn moving(name: &str, expected: Option<ObjectId>, new: Option<ObjectId>) -> RefUpdate {
        RefUpdate {
            name: name.to_owned(),
            expected,
            new,
        }
    }

    #[test]
    fn refs_move_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(&folder.path().join("r.git")).unwrap();
        let one = git.write(Kind::Blob, b"one").unwrap();
        let two = git.write(Kind::Blob, b"two").unwrap();
        git.transaction(&[moving(A, None, Some(one)), moving(B, None, Some(one))])
            .unwrap();

        let lost = git.transaction(&[
            moving(A, Some(one), Some(two)),
            moving(B, Some(two), Some(two)),
        ]);
        let refusal = lost.unwrap_err();
        assert_eq!(refusal.code, Code::LostRace);
        assert!(refusal.detail.contains(B), "{refusal}");
        assert_eq!(git.resolve(A).unwrap(), Some(one));

        git.transaction(&[moving(A, Some(one), Some(two)), moving(B, Some(one), None)])
            .unwrap();
        assert_eq!(
            (git.resolve(A).unwrap(), git.resolve(B).unwrap()),
            (Some(two), None)
        );
        let again = git.transaction(&[moving(A, None, Some(one))]);
        assert_eq!(again.unwrap_err().code, Code::LostRace);
    }

    #[test]
    fn a_lock_that_is_held_is_a_lost_race_and_one_left_behind_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        let one = git.write(Kind::Blob, b"one").unwrap();
        git.transaction(&[moving(A, None, Some(one))]).unwrap();
        let lock = File::create(folder.path().join(format!("{A}.lock"))).unwrap();
        let refused = || git.transaction(&[moving(A, Some(one), None)]).unwrap_err();
        assert_eq!(refused().code, Code::LostRace);
        let long_ago = std::time::SystemTime::now() - LONGEST_MOVE * 2;
        lock.set_modified(long_ago).unwrap();
        let refusal = refused();
        assert_eq!(refusal.code, Code::RepositoryUnusable);
        assert!(refusal.detail.contains("refs/heads/a.lock"), "{refusal}");
    }

    #[test]
    fn a_ref_is_found_by_its_full_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        let id = git.write(Kind::Blob, b"").unwrap();
        git.transaction(&[moving("refs/heads/refs/heads/x", None, Some(id))])
            .unwrap();
        assert_eq!(git.resolve("refs/heads/x").unwrap(), None);
        assert_eq!(
            git.require("refs/heads/x").unwrap_err().code,
            Code::RefMissing
        );
        assert!(git.resolve("x").is_err());
    }
}
