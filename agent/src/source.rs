//! The source of a release: fetched into a mirror, its pinned commit checked to be on its branch, and written out by
//! ourselves, by processes with limits: the agent reads no object of a source.

mod checkout;
mod tree;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use state::digest::ObjectId;
use state::git::fetch::Request;
use state::git::worker::{Worker, limit_memory};
use state::git::{Git, Kind};
use state::service::Source;
use state::tree::Objects as _;
use state::unit::Bytes;
use state::{Code, Refusal};
use tokio::time::sleep;

pub use checkout::{Checkout, File};

use crate::disk::{self, failed};
use crate::remotes::mirror::Mirror;
use crate::spawn::{self, Ended};

/// The largest commit that is read, in bytes.
const MAX_COMMIT: u64 = 1 << 20;
/// The longest answer of a checkout, in bytes: the paths of all files.
const MAX_ANSWER: usize = 256 << 20;

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
    /// The agent's own program, which reads objects.
    program: PathBuf,
}

/// Has `worker` fetch the branch into `mirror` unless the commit is known to be on it.
///
/// # Errors
/// `SOURCE_UNAVAILABLE` if the branch cannot be fetched, `DISK_FULL`, `SOURCE_NOT_ON_BRANCH` if it does not hold the commit: forges
/// hand out commits of anybody's forks by their id, so only a branch says that a commit belongs to a repository.
pub fn fetch(
    mirror: &Path,
    source: &Source,
    access: &Access,
    limits: &Limits,
    worker: &mut Worker,
) -> Result<Fetched, Refusal> {
    let branch = format!("refs/heads/{}", source.branch);
    let request = Request {
        url: source.repository.clone(),
        token: access.token.clone(),
        ca: access.ca.clone(),
        refs: vec![(branch.clone(), branch)],
        wanted: Some(source.commit),
        into: mirror.to_owned(),
        max_bytes: limits.bytes,
        deadline: limits.deadline,
    };
    let mut answer = worker.fetch(&request);
    if let Err(refusal) = &answer
        && refusal.code.is_damaged_copy()
    {
        tracing::warn!(mirror = %mirror.display(), %refusal, "a mirror is broken and fetched anew");
        fs::remove_dir_all(mirror).map_err(|error| failed(mirror, &error))?;
        answer = worker.fetch(&request);
    }
    let fetched = answer.map_err(|refusal| {
        let detail = format!(
            "branch '{}' of '{}': {refusal}",
            source.branch, source.repository
        );
        let code = match refusal.code {
            full @ Code::DiskFull => full,
            _ => Code::SourceUnavailable,
        };
        Refusal::new(code, detail)
    })?;
    if fetched.pack.is_some() {
        Mirror::new(mirror.to_owned()).pack(worker.program());
    }
    if !fetched.reaches {
        let detail = format!(
            "commit {} is not reachable from branch '{}' of '{}'",
            source.commit, source.branch, source.repository
        );
        return Err(Refusal::new(Code::SourceNotOnBranch, detail));
    }
    Ok(Fetched {
        mirror: mirror.to_owned(),
        source: source.clone(),
        program: worker.program().to_owned(),
    })
}

impl Fetched {
    /// Has a process of its own write all files of the commit into `folder`, which must be empty: reading an object may
    /// take any memory, whatever its own size is. It is killed when the file system has less than `floor` left.
    ///
    /// # Errors
    /// `SOURCE_REFUSED` for a tree that cannot be written safely, `DISK_FULL`, `SOURCE_UNAVAILABLE` if the process was
    /// killed, and what reading an object is refused for.
    pub async fn checkout(
        &self,
        folder: &Path,
        limits: &Limits,
        floor: Bytes,
    ) -> Result<Checkout, Refusal> {
        disk::room(folder, floor)?;
        let mut command = Command::new(&self.program);
        command.arg("checkout");
        command.args(["--bytes", &limits.bytes.to_string()]);
        command.args(["--entries", &limits.entries.to_string()]);
        command.arg(&self.mirror);
        command.arg(self.source.commit.to_string()).arg(folder);
        let stop = |_| async {
            tokio::select! {
                () = sleep(limits.deadline) => {
                    let detail = format!("not checked out within {:?}", limits.deadline);
                    Refusal::new(Code::SourceUnavailable, detail)
                }
                full = disk::full(folder, floor) => full,
            }
        };
        let mut answer = Vec::new();
        let keep = |bytes: &[u8]| {
            let room = MAX_ANSWER - answer.len();
            answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
        };
        let status = match spawn::run(command, None, stop, keep).await {
            Ok(Ended::Exited(status)) => status,
            Ok(Ended::Stopped(refusal)) => return Err(refusal),
            Err(error) => return Err(failed(&self.program, &error)),
        };
        // What it said beside its answer stands before it.
        let line = answer
            .split(|byte| *byte == b'\n')
            .rfind(|line| !line.is_empty());
        let read = line.and_then(|line| serde_json::from_slice(line).ok());
        match (read, status.signal().and_then(Signal::from_named_raw)) {
            (Some(answer), _) => answer,
            (None, Some(Signal::ABORT)) => {
                Err(tree::refuse("reading its objects takes too much memory"))
            }
            (None, Some(Signal::XFSZ)) => Err(tree::refuse("the source has too many bytes")),
            (None, _) => {
                let detail = format!("the checkout ended by {status}");
                Err(Refusal::new(Code::SourceUnavailable, detail))
            }
        }
    }
}

/// Writes the files of a commit in this process, under limits, and prints the answer as a line of JSON. Only `agent
/// checkout` does.
///
/// # Errors
/// If the limits cannot be set or the output is closed.
pub fn serve_checkout(
    mirror: &Path,
    commit: &ObjectId,
    folder: &Path,
    limits: &Limits,
) -> io::Result<()> {
    limit_memory()?;
    let answer = write_out(mirror, commit, folder, limits);
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    io::stdout().lock().write_all(&line)
}

fn write_out(
    mirror: &Path,
    commit: &ObjectId,
    folder: &Path,
    limits: &Limits,
) -> Result<Checkout, Refusal> {
    let git = Git::open(mirror)?;
    let raw = git.object(Kind::Commit, commit, MAX_COMMIT)?;
    let root = tree::of_commit(&raw)
        .ok_or_else(|| tree::refuse(format!("commit {commit} names no tree")))?;
    checkout::write(&git, &root, folder, limits)
}
