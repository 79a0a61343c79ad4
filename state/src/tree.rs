//! Trees: read strictly, written as git writes them, named by git's SHA-256 ids, compared without reading what is equal.

mod diff;
mod object;
mod path;
mod read;
mod write;

pub use diff::{Change, File, changes};
pub use object::{Entry, Mode, parse};
pub use read::{Files, Limits, Objects, Snapshot, read};
pub use write::{sha256_id, write};
