//! Trees: read strictly and within limits, written as git writes them, named by git's SHA-256 ids, and compared
//! without reading what is equal. Nothing is ever checked out from them.

mod diff;
mod name;
mod object;
mod read;
mod rolling;
mod write;

pub use diff::{Change, File, changes};
pub use object::{Entry, Mode, parse};
pub use read::{Files, Limits, Objects, Snapshot, read};
pub(crate) use rolling::{Difference, Rolling};
pub use write::{sha256_id, write};
