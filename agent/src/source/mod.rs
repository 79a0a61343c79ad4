//! The source of a release: fetched into a mirror, its pinned commit checked to be on its branch, and written out by
//! ourselves. All of it blocks; call it where blocking is allowed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use state::Refusal;
use state::git::worker::Worker;
use state::service::Source;

/// How the repositories below a URL are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A file with the token.
    pub token: Option<PathBuf>,
    /// A file with the authorities to trust.
    pub ca: Option<PathBuf>,
}

/// How much a source may be, and how long fetching it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one fetch and of one checkout.
    pub bytes: u64,
    /// Files and folders of one checkout.
    pub entries: u64,
    /// The time of one fetch.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 2 << 30,
            entries: 200_000,
            deadline: Duration::from_secs(600),
        }
    }
}

/// A pinned commit that is here, with all its files, and is on its branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    mirror: PathBuf,
    source: Source,
}

/// Has `worker` fetch the branch into `mirror` unless the commit is known to be on it.
///
/// # Errors
/// `SOURCE_UNAVAILABLE`, `SOURCE_NOT_ON_BRANCH`, and what a fetch is refused for.
#[allow(clippy::todo, reason = "being written")]
pub fn fetch(
    mirror: &Path,
    source: &Source,
    access: &Access,
    limits: &Limits,
    worker: &mut Worker,
) -> Result<Fetched, Refusal> {
    todo!("{mirror:?} {source:?} {access:?} {limits:?} {worker:?}")
}
