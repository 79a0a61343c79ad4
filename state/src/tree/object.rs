//! One tree object.

use crate::Refusal;
use crate::digest::ObjectId;

/// What a tree's entry is. Everything else that git knows is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A file, `100644`.
    Plain,
    /// A file that may be executed, `100755`.
    Executable,
    /// A directory, `40000`.
    Directory,
}

/// One entry of a tree object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub mode: Mode,
    /// Its name, one path component.
    pub name: String,
    /// The blob or tree.
    pub id: ObjectId,
}

/// Reads the raw bytes of a tree object.
///
/// # Errors
/// `TREE_MALFORMED`, `SYMLINK_REFUSED`, `SUBMODULE_REFUSED`, `PATH_REFUSED`, `PATH_COLLISION`.
pub fn parse(_raw: &[u8]) -> Result<Vec<Entry>, Refusal> {
    todo!()
}
