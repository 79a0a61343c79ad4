//! Objects: every read is hashed again, with collision detection, before a byte of it is used.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use gix::objs::{CommitRefIter, Find as _, Write as _};
use gix::odb::Header as _;
use sha1_checked::Digest as _;
use sha1_checked::{CollisionResult, Sha1};

use super::{Git, unusable};
use crate::digest::ObjectId;
use crate::{Code, Refusal};

/// The largest object that is read, in bytes; what a tree may hold is bounded more tightly by the trust file.
pub const MAX_OBJECT: u64 = 64 << 20;

/// What an object is. Tags are not read: nothing in Writ is named by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file's content.
    Blob,
    /// A folder.
    Tree,
    /// A commit.
    Commit,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
            Self::Commit => "commit",
        })
    }
}

impl From<Kind> for gix::object::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Blob => Self::Blob,
            Kind::Tree => Self::Tree,
            Kind::Commit => Self::Commit,
        }
    }
}

impl Git {
    /// Reads the object `id`, which must be a `kind` of at most [`MAX_OBJECT`] bytes.
    ///
    /// # Errors
    /// `OBJECT_MISSING`, `OBJECT_CORRUPT` (also for another kind of object), `SHA1_COLLISION`, `TREE_TOO_BIG` over the limit.
    pub fn object(&self, kind: Kind, id: &ObjectId) -> Result<Vec<u8>, Refusal> {
        let name = gix::ObjectId::from(id.0);
        for store in self.quarantine.iter().chain([&*self.repository.objects]) {
            let corrupt = |error: gix::Error| corrupt(id, &error);
            let Some(header) = store.try_header(&name).map_err(corrupt)? else {
                continue;
            };
            // The size is believed only in order to refuse: the reader allocates no more than it says.
            let size = header.size();
            if size > MAX_OBJECT {
                let detail = format!("object {id} has {size} bytes, at most {MAX_OBJECT} are read");
                return Err(Refusal::new(Code::TreeTooBig, detail));
            }
            let mut bytes = Vec::new();
            let found = store.try_find(&name, &mut bytes).map_err(corrupt)?;
            let Some(found) = found.map(|object| object.kind) else {
                continue;
            };
            check_hash(id, found, &bytes)?;
            if found != kind.into() {
                return Err(self::corrupt(
                    id,
                    &format!("is a {found}, expected a {kind}"),
                ));
            }
            return Ok(bytes);
        }
        Err(Refusal::new(Code::ObjectMissing, format!("{kind} {id}")))
    }

    /// Says whether the object `id` is here, without reading it.
    pub fn contains(&self, id: &ObjectId) -> bool {
        let name = gix::ObjectId::from(id.0);
        let mut stores = self.quarantine.iter().chain([&*self.repository.objects]);
        stores.any(|store| gix::objs::Exists::exists(store, &name))
    }

    /// Writes an object unless it is there, and returns its id. It is durable once a [`Git::transaction`] has named it.
    pub fn write(&self, kind: Kind, bytes: &[u8]) -> Result<ObjectId, Refusal> {
        let digest = hash(kind.into(), bytes);
        let id = ObjectId((*digest.hash()).into());
        if digest.has_collision() {
            return Err(Refusal::new(Code::Sha1Collision, format!("object {id}")));
        }
        if !self.contains(&id) {
            self.repository
                .objects
                .write_buf(kind.into(), bytes)
                .map_err(|error| unusable(self.path(), &error))?;
        }
        Ok(id)
    }

    /// The parents of the commit `id`, in its own order.
    pub fn parents(&self, id: &ObjectId) -> Result<Vec<ObjectId>, Refusal> {
        let bytes = self.object(Kind::Commit, id)?;
        let parents = CommitRefIter::from_bytes(&bytes, gix::hash::Kind::Sha1).parent_ids();
        parents.map(|parent| super::object_id(&parent)).collect()
    }

    /// Says whether `ancestor` is `descendant` or reachable from it over any parents.
    pub fn is_ancestor(&self, ancestor: &ObjectId, descendant: &ObjectId) -> Result<bool, Refusal> {
        let mut seen = BTreeSet::from([*descendant]);
        let mut queue = VecDeque::from([*descendant]);
        while let Some(id) = queue.pop_front() {
            if id == *ancestor {
                return Ok(true);
            }
            let parents = self.parents(&id)?;
            queue.extend(parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(false)
    }

    /// The commits from `tip` along first parents, newest first: down to and without `until`, or down to a commit without parents.
    ///
    /// # Errors
    /// `NOT_DESCENDANT` if `until` is not met.
    pub fn first_parents(
        &self,
        tip: &ObjectId,
        until: Option<&ObjectId>,
    ) -> Result<Vec<ObjectId>, Refusal> {
        let mut commits = Vec::new();
        let mut next = Some(*tip);
        while let Some(id) = next.filter(|id| Some(id) != until) {
            next = self.parents(&id)?.first().copied();
            commits.push(id);
        }
        match (next, until) {
            (None, Some(until)) => {
                let detail =
                    format!("commit {tip} does not descend from {until} along first parents");
                Err(Refusal::new(Code::NotDescendant, detail))
            }
            _ => Ok(commits),
        }
    }
}

/// The SHA-1 of an object with its header, and whether its bytes were made to collide.
fn hash(kind: gix::object::Kind, bytes: &[u8]) -> CollisionResult {
    let mut hasher = Sha1::new();
    hasher.update(gix::objs::encode::loose_header(kind, bytes.len() as u64));
    hasher.update(bytes);
    hasher.try_finalize()
}

/// Checks that `bytes` are what `id` names.
fn check_hash(id: &ObjectId, kind: gix::object::Kind, bytes: &[u8]) -> Result<(), Refusal> {
    let digest = hash(kind, bytes);
    if digest.has_collision() {
        return Err(Refusal::new(Code::Sha1Collision, format!("object {id}")));
    }
    if digest.hash().as_slice() != id.0 {
        let got = hex::encode(digest.hash());
        return Err(corrupt(id, &format!("its bytes hash to {got}")));
    }
    Ok(())
}

/// Says that the object `id` is not what its id promises.
fn corrupt(id: &ObjectId, why: &dyn fmt::Display) -> Refusal {
    Refusal::new(Code::ObjectCorrupt, format!("object {id}: {why}"))
}
