//! What differs between two trees. Equal subtrees are not read.

use crate::Refusal;
use crate::digest::ObjectId;

use super::{Limits, Objects};

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Whether its mode is 100755.
    pub executable: bool,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// One path whose content or mode differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: String,
    /// The file before; `None` if there was none.
    pub before: Option<File>,
    /// The file after; `None` if there is none.
    pub after: Option<File>,
}

/// The files that differ between the trees `before` (`None`: the empty tree) and `after`, sorted by path.
///
/// # Errors
/// Those of [`super::read`].
pub fn changes(
    _objects: &dyn Objects,
    _before: Option<&ObjectId>,
    _after: &ObjectId,
    _limits: &Limits,
) -> Result<Vec<Change>, Refusal> {
    todo!()
}
