//! All files of a tree, within limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::digest::{ObjectId, TreeId};
use crate::git::Kind;
use crate::unit::Bytes;

/// Where objects are read from.
pub trait Objects {
    /// The raw bytes of the object `id`, re-hashed, at most `limit` of them.
    ///
    /// # Errors
    /// `OBJECT_MISSING`, `OBJECT_CORRUPT` (another kind too), `SHA1_COLLISION`; `TREE_TOO_BIG` if the object's
    /// header announces more than `limit` bytes, before they are loaded.
    fn object(&self, kind: Kind, id: &ObjectId, limit: u64) -> Result<Vec<u8>, Refusal>;
}

/// How large a tree may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Files.
    pub files: u64,
    /// Bytes of all its files and tree objects together.
    pub bytes: Bytes,
}

/// The contents of files by path (components joined by `/`).
pub type Files = BTreeMap<String, Arc<[u8]>>;

/// All files of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Their contents.
    pub files: Files,
    /// The paths of those with mode 100755.
    pub executable: BTreeSet<String>,
    /// The SHA-256 id of the tree.
    pub id: TreeId,
}

impl Snapshot {
    /// The SHA-256 id of the tree without the files `left_out` of its root.
    pub fn id_without(&self, _left_out: &[&str]) -> TreeId {
        todo!()
    }
}

/// Reads the tree `root` with everything below it.
///
/// # Errors
/// Those of [`super::parse`] and [`Objects::object`]; `PATH_REFUSED` if it is too deep, `TREE_TOO_BIG`.
pub fn read(
    _objects: &dyn Objects,
    _root: &ObjectId,
    _limits: &Limits,
) -> Result<Snapshot, Refusal> {
    todo!()
}
