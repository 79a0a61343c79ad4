//! The first stage of an intake: exactly the branches of one remote that are asked for, into `refs/incoming` of the mirror,
//! by the resident worker.

use std::path::Path;

use state::Refusal;
use state::git::fetch::{Fetched, Request};
use state::git::worker::Worker;

use crate::config::Remote;

/// Fetches `refs`, such as [`state::verify::Tips::refs`], from `remote` into `mirror`. Blocks.
///
/// # Errors
/// `FETCH_FAILED`, `FETCH_TIMEOUT`, `FETCH_TOO_BIG`, `REF_MISSING`, `DISK_FULL`.
pub(crate) fn fetch(
    worker: &mut Worker,
    remote: &Remote,
    mirror: &Path,
    refs: Vec<(String, String)>,
) -> Result<Fetched, Refusal> {
    let request = Request {
        url: remote.url.clone(),
        token: remote.token.clone(),
        ca: remote.ca.clone(),
        refs,
        wanted: None,
        into: mirror.to_owned(),
        max_bytes: remote.max_bytes.0,
        deadline: remote.deadline.duration(),
    };
    worker
        .fetch(&request)
        .map_err(|refusal| refusal.at(&remote.url))
}
