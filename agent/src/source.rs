//! The source of a release: fetched into a mirror, its pinned commit checked to be on its branch, and written out by
//! ourselves. All of it blocks; call it where blocking is allowed.

mod checkout;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use state::git::fetch::Request;
use state::git::worker::Worker;
use state::git::{Git, Kind};
use state::service::Source;
use state::tree::Objects as _;
use state::{Code, Refusal};

pub use checkout::{Checkout, File};

use crate::disk::failed;

/// The largest commit that is read, in bytes.
const MAX_COMMIT: u64 = 1 << 20;

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
/// `SOURCE_UNAVAILABLE` if the branch cannot be fetched, `SOURCE_NOT_ON_BRANCH` if it does not hold the commit: forges
/// hand out commits of anybody's forks by their id, so only a branch says that a commit belongs to a repository.
pub fn fetch(
    mirror: &Path,
    source: &Source,
    access: &Access,
    limits: &Limits,
    worker: &mut Worker,
) -> Result<Fetched, Refusal> {
    let fetched = Fetched {
        mirror: mirror.to_owned(),
        source: source.clone(),
    };
    let branch = format!("refs/heads/{}", source.branch);
    match mirror
        .exists()
        .then(|| is_on_branch(mirror, source, &branch))
    {
        Some(Ok(true)) => return Ok(fetched),
        Some(Err(refusal)) if refusal.code.is_damaged_copy() => {
            tracing::warn!(mirror = %mirror.display(), %refusal, "a mirror is broken and fetched anew");
            fs::remove_dir_all(mirror).map_err(|error| failed(mirror, &error))?;
        }
        Some(Err(refusal)) => return Err(refusal),
        Some(Ok(false)) | None => {}
    }
    let request = Request {
        url: source.repository.clone(),
        token: access.token.clone(),
        ca: access.ca.clone(),
        refs: vec![(branch.clone(), branch.clone())],
        into: mirror.to_owned(),
        max_bytes: limits.bytes,
        deadline: limits.deadline,
    };
    let unavailable = |refusal: Refusal| {
        let detail = format!(
            "branch '{}' of '{}': {refusal}",
            source.branch, source.repository
        );
        Refusal::new(Code::SourceUnavailable, detail)
    };
    worker.fetch(&request).map_err(unavailable)?;
    if is_on_branch(mirror, source, &branch)? {
        return Ok(fetched);
    }
    let detail = format!(
        "commit {} is not reachable from branch '{}' of '{}'",
        source.commit, source.branch, source.repository
    );
    Err(Refusal::new(Code::SourceNotOnBranch, detail))
}

/// Says whether the mirror holds the commit on the branch.
fn is_on_branch(mirror: &Path, source: &Source, branch: &str) -> Result<bool, Refusal> {
    let git = Git::open(mirror)?;
    match git.resolve(branch)? {
        Some(tip) if git.contains(&source.commit) => git.is_ancestor(&source.commit, &tip),
        _ => Ok(false),
    }
}

impl Fetched {
    /// Writes all files of the commit into `folder`, which must be empty.
    ///
    /// # Errors
    /// `SOURCE_REFUSED` for a tree that cannot be written safely, `DISK_FULL`, and what reading an object is refused for.
    pub fn checkout(&self, folder: &Path, limits: &Limits) -> Result<Checkout, Refusal> {
        let git = Git::open(&self.mirror)?;
        let commit = git.object(Kind::Commit, &self.source.commit, MAX_COMMIT)?;
        let root = tree::of_commit(&commit).ok_or_else(|| {
            Refusal::new(
                Code::SourceRefused,
                format!("commit {} names no tree", self.source.commit),
            )
        })?;
        checkout::write(&git, &root, folder, limits)
    }
}
