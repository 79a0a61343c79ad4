//! The only door to git: reads objects and refs, writes both, fetches.
//!
//! Repositories are opened isolated: no configuration of the user or the system, no replace refs, no alternates.
//! Nothing is ever checked out (trees are walked by [`crate::tree`]) and nothing is pushed.

mod client;
mod http;
mod moves;
mod objects;
mod recent;
mod refs;

pub mod fetch;
pub mod repack;
pub mod worker;

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::path::Path;

pub use moves::Mover;
pub use objects::{Kind, sha1};
pub use refs::RefUpdate;

use crate::digest::ObjectId;
use crate::{Code, Refusal, limit};
use recent::Recent;

/// An open repository. Cheap to open (about a millisecond); not shared between threads.
pub struct Git {
    repository: gix::Repository,
    /// Objects of a push that git has not accepted yet; looked at before the repository's own.
    quarantine: Option<gix::odb::Handle>,
    recent: RefCell<Recent>,
}

impl Git {
    /// Opens the repository at `path`: bare, or a work tree with its `.git`.
    ///
    /// # Errors
    /// `REPOSITORY_UNUSABLE`, and `REPOSITORY_UNSUPPORTED` for the formats that the code's remedy names.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        refuse_formats(path)?;
        let mut repository = options()
            .open(path)
            .map_err(|error| unusable(path, &error))?
            .to_thread_local();
        // The branches are their own log; a reflog would need a committer's name and time.
        repository.refs.write_reflog = gix::refs::store::WriteReflog::Disable;
        refuse_alternates(repository.objects.store_ref().path())?;
        Ok(Self {
            repository,
            quarantine: None,
            recent: RefCell::default(),
        })
    }

    /// Opens the repository at `path` as a `pre-receive` hook sees it: with the objects of the push in `quarantine`,
    /// which git names in `GIT_OBJECT_DIRECTORY` and gix does not look at.
    pub fn open_quarantined(path: &Path, quarantine: &Path) -> Result<Self, Refusal> {
        let mut git = Self::open(path)?;
        refuse_alternates(quarantine)?;
        let objects = gix::odb::at(quarantine, gix::hash::Kind::Sha1)
            .map_err(|error| unusable(quarantine, &error))?;
        git.quarantine = Some(objects);
        Ok(git)
    }

    /// Opens the bare repository at `path`, and makes it first if there is none.
    pub fn init_bare(path: &Path) -> Result<Self, Refusal> {
        if path.join("HEAD").exists() {
            return Self::open(path);
        }
        std::fs::create_dir_all(path).map_err(|error| unusable(path, &error))?;
        let kind = gix::create::Kind::Bare;
        gix::ThreadSafeRepository::init_opts(
            path,
            kind,
            gix::create::Options::default(),
            options(),
        )
        .map_err(|error| unusable(path, &error))?;
        // git's samples, of which nothing is ever run here.
        match std::fs::remove_dir_all(path.join("hooks")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unusable(path, &error));
            }
            _ => {}
        }
        Self::open(path)
    }

    /// The folder that holds `refs`, `objects` and `hooks`.
    pub fn path(&self) -> &Path {
        self.repository.common_dir()
    }
}

/// How every repository is opened. Reduced trust makes gix ignore what a repository's own configuration could switch on.
fn options() -> gix::open::Options {
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Reduced)
        .config_overrides([
            "core.useReplaceRefs=false",
            // What gix allocates for one object; without a word here it is `limit::OBJECT`, silently.
            &format!("gitoxide.objects.allocLimit={}", limit::FETCHED_OBJECT),
            // Nobody is there to answer a prompt, and a host that does not answer is not waited for.
            "core.sshCommand=ssh -o BatchMode=yes -o ConnectTimeout=20",
            "ssh.variant=ssh",
            // Half a history cannot be walked.
            "clone.rejectShallow=true",
        ])
}

/// Refuses object format sha256 and the reftable backend, of which gix would see an empty or broken repository.
fn refuse_formats(path: &Path) -> Result<(), Refusal> {
    let bare = path.join("config");
    let file = if bare.is_file() {
        bare
    } else {
        path.join(".git/config")
    };
    if !file.is_file() {
        return Ok(()); // a linked work tree or no repository at all: gix decides
    }
    let config = gix::config::File::from_path_no_includes(file.clone(), gix::config::Source::Local)
        .map_err(|error| unusable(&file, &error))?;
    for (key, supported) in [
        ("extensions.objectFormat", "sha1"),
        ("extensions.refStorage", "files"),
    ] {
        match config.string(key) {
            Some(value) if !value.eq_ignore_ascii_case(supported.as_bytes()) => {
                let detail = format!(
                    "'{}': {key} is {value}, expected {supported}",
                    path.display()
                );
                return Err(Refusal::new(Code::RepositoryUnsupported, detail));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses objects that are borrowed from a folder outside the repository.
fn refuse_alternates(objects: &Path) -> Result<(), Refusal> {
    let file = objects.join("info/alternates");
    if file.exists() {
        let detail = format!("'{}' exists", file.display());
        return Err(Refusal::new(Code::RepositoryUnsupported, detail));
    }
    Ok(())
}

/// Says that the repository at `path` cannot be worked with.
fn unusable(path: &Path, error: &(dyn Error + 'static)) -> Refusal {
    let detail = format!("'{}': {}", path.display(), chain(error));
    Refusal::new(fault(error, Code::RepositoryUnusable), detail)
}

/// `code`, or `DISK_FULL` if that is what caused the error: neither the remote nor the repository is to blame then.
fn fault(error: &(dyn Error + 'static), code: Code) -> Code {
    if is_full(error) { Code::DiskFull } else { code }
}

fn is_full(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        // What it wraps is not among its sources.
        let wrapped = error.get_ref();
        return full.contains(&error.kind()) || wrapped.is_some_and(|wrapped| is_full(wrapped));
    }
    error.source().is_some_and(is_full)
}

/// An error with what caused it, on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<_> = causes.map(|cause| cause.to_string()).collect();
    texts.join(": ")
}

/// Takes over an id; a repository of 20-byte ids has no others.
fn object_id(id: &gix::oid) -> Result<ObjectId, Refusal> {
    let bytes = id.as_bytes().try_into();
    bytes
        .map(ObjectId)
        .map_err(|_| Refusal::new(Code::RepositoryUnsupported, format!("object id {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Objects as _;
    use std::fs;
    use std::process::Command;

    /// Runs git in `folder`, with no configuration but the repository's own.
    fn git(folder: &Path, args: &[&str]) {
        let done = Command::new("git")
            .current_dir(folder)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .args(args)
            .status();
        assert!(done.unwrap().success(), "git {args:?}");
    }

    #[test]
    fn formats_that_would_be_misread_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sha256 = ["init", "-q", "--bare", "--object-format=sha256", "sha256"];
        git(folder.path(), &sha256);
        git(folder.path(), &["init", "-q", "--bare", "reftable"]);
        // What `git init --ref-format=reftable` writes, for a git that cannot do it yet.
        let reftable = folder.path().join("reftable");
        git(&reftable, &["config", "core.repositoryFormatVersion", "1"]);
        git(&reftable, &["config", "extensions.refStorage", "reftable"]);
        for name in ["sha256", "reftable"] {
            let refusal = Git::open(&folder.path().join(name)).err().unwrap();
            assert_eq!(refusal.code, Code::RepositoryUnsupported, "{refusal}");
        }
        git(folder.path(), &["init", "-q", "--bare", "plain"]);
        let plain = folder.path().join("plain");
        Git::open(&plain).unwrap();
        fs::write(plain.join("objects/info/alternates"), "/elsewhere\n").unwrap();
        let refusal = Git::open(&plain).err().unwrap();
        assert_eq!(refusal.code, Code::RepositoryUnsupported, "{refusal}");
    }

    #[test]
    fn a_replace_ref_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Git::init_bare(folder.path()).unwrap();
        let good = repository.write(Kind::Blob, b"good").unwrap();
        let evil = repository.write(Kind::Blob, b"evil").unwrap();
        let replace = ["replace", &good.to_string(), &evil.to_string()];
        git(folder.path(), &replace);
        let repository = Git::open(folder.path()).unwrap();
        assert_eq!(repository.object(Kind::Blob, &good, 100).unwrap(), b"good");
    }

    #[test]
    fn a_full_disk_is_told_however_deep_it_lies() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let quota = io::Error::other(io::Error::from(io::ErrorKind::QuotaExceeded));
        let path = Path::new("/mirror");
        for error in [full(), io::Error::other(full()), quota] {
            assert_eq!(unusable(path, &error).code, Code::DiskFull, "{error:?}");
        }
        let text = io::Error::other("No space left on device");
        assert_eq!(unusable(path, &text).code, Code::RepositoryUnusable);
    }

    #[test]
    fn what_is_no_repository_is_unusable() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("absent"), folder.path().to_owned()] {
            let refusal = Git::open(&path).err().unwrap();
            assert_eq!(refusal.code, Code::RepositoryUnusable);
        }
    }
}
