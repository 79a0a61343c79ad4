//! The first stage of an intake: exactly the three branches of one remote, into `refs/incoming` of the mirror, by the
//! resident worker.

use std::path::Path;
use std::time::Duration;

use state::Refusal;
use state::git::fetch::{Fetched, Request};
use state::git::worker::Worker;
use state::verify::Tips;

use crate::config::Remote;

/// The most bytes that a remote may send in one fetch.
const MAX_BYTES: u64 = 256 << 20;

/// The time that one fetch may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Fetches from `remote` into `mirror`. Blocks.
///
/// # Errors
/// `FETCH_FAILED`, `FETCH_TIMEOUT`, `FETCH_TOO_BIG`, `REF_MISSING`.
pub fn fetch(worker: &mut Worker, remote: &Remote, mirror: &Path) -> Result<Fetched, Refusal> {
    let request = Request {
        url: remote.url.clone(),
        token: remote.token.clone(),
        ca: remote.ca.clone(),
        refs: Tips::refs(),
        into: mirror.to_owned(),
        max_bytes: MAX_BYTES,
        deadline: DEADLINE,
    };
    worker
        .fetch(&request)
        .map_err(|refusal| refusal.at(&remote.url))
}
