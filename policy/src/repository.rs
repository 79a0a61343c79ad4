//! Finds the branches of a state repository: in the repository that is served, or in a clone of it.

use std::path::{Path, PathBuf};

use anyhow::bail;
use state::digest::ObjectId;
use state::git::Git;
use state::{Code, Refusal};

use crate::program::Program;

/// One of the four branches of a state repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// What authors want.
    Main,
    /// What policy admitted.
    Admitted,
    /// That the last admission is the newest.
    Fresh,
    /// Who may sign what.
    Trust,
}

impl Branch {
    /// Its short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Admitted => "admitted",
            Self::Fresh => "fresh",
            Self::Trust => "trust",
        }
    }

    /// Its full name in the repository that is served.
    pub fn full_name(self) -> String {
        format!("refs/heads/{}", self.as_str())
    }
}

/// Whether a repository is the served one or somebody's clone of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The bare repository that is pushed to.
    Served,
    /// A clone with a work tree; its `origin` is the served one.
    Clone,
}

/// An open state repository.
pub struct Repository {
    /// Its objects and refs.
    pub git: Git,
    /// Its work tree; the repository itself if it is bare.
    pub folder: PathBuf,
    /// What it is.
    pub place: Place,
    /// What a push would make of its branches, before they move.
    pub pushed: Vec<(Branch, ObjectId)>,
}

impl Repository {
    /// Opens the bare repository at `path`, or the clone that `path` lies in.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if is_bare(path) {
            return Ok(Self {
                git: Git::open(path)?,
                folder: path.to_owned(),
                place: Place::Served,
                pushed: Vec::new(),
            });
        }
        let said = Program::new(path).say(&["rev-parse", "--show-toplevel"], b"")?;
        if !said.success {
            bail!(
                "'{}' is neither a bare repository nor inside a clone",
                path.display()
            );
        }
        let folder = PathBuf::from(said.stdout);
        Ok(Self {
            git: Git::open(&folder)?,
            folder,
            place: Place::Clone,
            pushed: Vec::new(),
        })
    }

    /// Opens the bare repository at `path`, which policy serves.
    pub fn served(path: &Path) -> anyhow::Result<Self> {
        if !is_bare(path) {
            bail!("'{}' is not a bare repository", path.display());
        }
        Self::open(path)
    }

    /// Opens the bare repository at `path` as a `pre-receive` hook sees it, with the objects of the push.
    pub fn pushed_to(path: &Path, quarantine: &Path) -> Result<Self, Refusal> {
        Ok(Self {
            git: Git::open_quarantined(path, quarantine)?,
            folder: path.to_owned(),
            place: Place::Served,
            pushed: Vec::new(),
        })
    }

    /// The tip of `branch`: what is being pushed to it; in a clone what was fetched last, else the local branch.
    pub fn tip(&self, branch: Branch) -> Result<Option<ObjectId>, Refusal> {
        if let Some((_, tip)) = self.pushed.iter().find(|(pushed, _)| *pushed == branch) {
            return Ok(Some(*tip));
        }
        self.branch(branch.as_str())
    }

    /// The tip of any branch `name`; in a clone what was fetched last, else the local branch.
    pub fn branch(&self, name: &str) -> Result<Option<ObjectId>, Refusal> {
        if self.place == Place::Clone {
            let tracked = format!("refs/remotes/origin/{name}");
            if let Some(tip) = self.git.resolve(&tracked)? {
                return Ok(Some(tip));
            }
        }
        self.git.resolve(&format!("refs/heads/{name}"))
    }

    /// The tip of `branch`.
    ///
    /// # Errors
    /// `REF_MISSING`, with the fetch that is missing.
    pub fn require(&self, branch: Branch) -> Result<ObjectId, Refusal> {
        self.tip(branch)?.ok_or_else(|| self.missing(branch))
    }

    /// Says that `branch` is missing and, in a clone, which fetch brings it.
    pub fn missing(&self, branch: Branch) -> Refusal {
        let name = branch.as_str();
        let detail = match self.place {
            Place::Served => format!("'{}' has no branch '{name}'", self.folder.display()),
            Place::Clone => format!(
                "this clone has no branch '{name}': git fetch origin +refs/heads/{name}:refs/remotes/origin/{name}"
            ),
        };
        Refusal::new(Code::RefMissing, detail)
    }

    /// Says whether the clone has a remote that it was cloned from or pushes to.
    pub fn has_origin(&self) -> anyhow::Result<bool> {
        let said = Program::new(&self.folder).say(&["remote", "get-url", "origin"], b"")?;
        Ok(said.success)
    }
}

/// Says whether `path` is itself a git directory.
fn is_bare(path: &Path) -> bool {
    path.join("HEAD").is_file() && path.join("objects").is_dir()
}
