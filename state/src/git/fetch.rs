//! One fetch: exactly the named branches of one remote, into exactly the named refs of a mirror.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::digest::ObjectId;

/// What to fetch, from where, with which credentials, within which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `https://…`, `ssh://…`, `file:///…` or an absolute path.
    pub url: String,
    /// A file with a token, or with `user:password`; sent over https only. Read anew by every fetch.
    pub token: Option<PathBuf>,
    /// A PEM file with the only authorities to trust over https; the system's if left out. Read anew by every fetch.
    pub ca: Option<PathBuf>,
    /// Full ref names: the remote's, and the one of the mirror that it is written to. A remote may rewind any of them.
    pub refs: Vec<(String, String)>,
    /// The mirror: a bare repository, made if there is none.
    pub into: PathBuf,
    /// The most bytes that the remote may send, and the most that one file may take on disk.
    pub max_bytes: u64,
    /// The time within which it must all have happened.
    pub deadline: Duration,
}

/// What a fetch found and left in the mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// What each of the mirror's refs points at, in the order of the request.
    pub refs: Vec<(String, ObjectId)>,
    /// The pack that was written, if the remote had anything new: what [`super::Git::discard_pack`] takes.
    pub pack: Option<String>,
}

/// Fetches in this process. Only the fetch worker does: it alone has limits.
///
/// # Errors
/// `FETCH_FAILED`, `FETCH_TOO_BIG`, `FETCH_TIMEOUT`, and `REF_MISSING` for a branch that the remote lacks.
#[allow(clippy::todo, reason = "being written")]
pub fn run(request: &Request) -> Result<Fetched, Refusal> {
    todo!("{request:?}")
}
