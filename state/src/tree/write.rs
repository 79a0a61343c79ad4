//! From files to tree objects, and to git's SHA-256 id of the same content.

use crate::digest::{ObjectId, TreeId};

use super::Files;
use crate::git::Kind;

/// The id that `git write-tree` prints for plain `files` in a repository of object format SHA-256.
pub fn sha256_id(_files: &Files) -> TreeId {
    todo!()
}

/// The objects of a tree of plain `files`, what is named before what names it, and the id of its root.
pub fn write(_files: &Files) -> (ObjectId, Vec<(Kind, Vec<u8>)>) {
    todo!()
}
