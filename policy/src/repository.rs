//! Finds the branches of a state repository: in the repository that is served, in policy's mirror of a hosted one, or in
//! a clone.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use state::digest::ObjectId;
use state::git::{Git, Mover, RefUpdate};
use state::{Code, Refusal};

use crate::branch::Branch;
use crate::hosted::{self, Moved, Upstream};
use crate::program::Program;
use crate::settings::Folder;

/// Whether a repository is the served one or somebody's clone of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The bare repository that is pushed to, or policy's mirror of it.
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
    /// Where it is hosted, if it is policy's mirror and about to be worked on.
    pub upstream: Option<Upstream>,
}

impl Repository {
    /// Opens the bare repository at `path`, or the clone that `path` lies in.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if is_bare(path) {
            return Ok(Self::at(Git::open(path)?, path.to_owned(), Place::Served));
        }
        let said = Program::new(path).say(&["rev-parse", "--show-toplevel"], b"")?;
        if !said.success {
            bail!(
                "'{}' is neither a bare repository nor inside a clone",
                path.display()
            );
        }
        let folder = PathBuf::from(said.stdout);
        Ok(Self::at(Git::open(&folder)?, folder, Place::Clone))
    }

    /// Opens the bare repository at `path`, which policy serves, or its mirror of a hosted one: its settings say which.
    pub fn served(path: &Path) -> anyhow::Result<Self> {
        if !is_bare(path) {
            bail!("'{}' is not a bare repository", path.display());
        }
        let settings = Folder::of(path).settings()?;
        let upstream = Upstream::new(path, &settings)?;
        if let Some(upstream) = &upstream {
            hosted::refuse_hooks(path, upstream.url())?;
        }
        Ok(Self {
            upstream,
            ..Self::open(path)?
        })
    }

    /// Opens the repository at `path` that policy works on: the served one, or, where `remote` or its settings name the
    /// remote, a mirror. A missing mirror is made, and the settings remember `remote`.
    ///
    /// # Errors
    /// If there is a repository that is no mirror.
    pub fn working(path: &Path, remote: Option<&str>) -> anyhow::Result<Self> {
        let settings = Folder::of(path).settings()?;
        let Some(remote) = remote.or(settings.remote.as_deref()) else {
            return Self::served(path);
        };
        hosted::make(path, remote)?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find '{}'", path.display()))?;
        Self::served(&path)
    }

    /// Opens the bare repository at `path` as a `pre-receive` hook sees it, with the objects of the push.
    pub fn pushed_to(path: &Path, quarantine: &Path) -> Result<Self, Refusal> {
        let git = Git::open_quarantined(path, quarantine)?;
        Ok(Self::at(git, path.to_owned(), Place::Served))
    }

    fn at(git: Git, folder: PathBuf, place: Place) -> Self {
        Self {
            git,
            folder,
            place,
            pushed: Vec::new(),
            upstream: None,
        }
    }

    /// Brings a mirror to what the remote shows. Any other repository is what it shows.
    ///
    /// # Errors
    /// Those of [`Upstream::refresh`].
    pub fn refresh(&self) -> Result<Moved, Refusal> {
        match &self.upstream {
            Some(upstream) => upstream.refresh(&self.git),
            None => Ok(Moved::Theirs),
        }
    }

    /// Looks again after somebody else moved a branch first, for the `lost`th time. Servers that lost to one another come
    /// back one by one.
    ///
    /// # Errors
    /// Those of [`Repository::refresh`].
    pub(crate) fn look_again(&self, lost: u32) -> Result<(), Refusal> {
        match &self.upstream {
            Some(upstream) => {
                hosted::pause(lost)?;
                upstream.refresh(&self.git).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Moves branches, all or none, from where they are expected; those of a mirror on the remote first.
    ///
    /// # Errors
    /// `LOST_RACE` if one is elsewhere; those of [`Upstream::push`], and of [`Mover::transaction`].
    pub fn transaction(&self, updates: &[RefUpdate]) -> Result<(), Refusal> {
        if let Some(upstream) = &self.upstream {
            upstream.push(updates)?;
        }
        self.mover().transaction(updates)
    }

    /// Takes back the locks of branches that a pass held when it was killed. Nobody else makes a pass now.
    ///
    /// # Errors
    /// Those of [`Mover::recover`].
    pub(crate) fn recover(&self) -> Result<(), Refusal> {
        let moved = [Branch::Admitted, Branch::Fresh].map(Branch::full_name);
        let kept = [Branch::Admitted, Branch::Trust, Branch::Main].map(Branch::kept_name);
        self.mover().recover(&[&moved[..], &kept].concat())
    }

    /// Moves refs as passes do: what the folder holds tells their locks from those of git processes.
    fn mover(&self) -> Mover<'_> {
        Mover::new(&self.git, Folder::of(&self.folder).path())
    }

    /// Saves space in a mirror, where no push does it.
    pub(crate) fn tidy(&self) {
        if let Some(upstream) = &self.upstream {
            upstream.tidy();
        }
    }

    /// Keeps `commits`, each in the name of a branch, until others are kept in its place: in a mirror, whatever the
    /// remote does; in a served repository the trust files alone, whoever pushed there while the hooks were missing.
    pub(crate) fn keep(&self, commits: &[(Branch, ObjectId)]) -> Result<(), Refusal> {
        let mut updates = Vec::new();
        for (branch, commit) in commits {
            if self.upstream.is_none() && *branch != Branch::Trust {
                continue;
            }
            let (expected, new) = (self.kept(*branch)?, Some(*commit));
            if expected != new {
                let name = branch.kept_name();
                updates.push(RefUpdate {
                    name,
                    expected,
                    new,
                });
            }
        }
        match updates.is_empty() {
            true => Ok(()),
            false => self.mover().transaction(&updates),
        }
    }

    /// What is kept in the name of `branch`.
    pub(crate) fn kept(&self, branch: Branch) -> Result<Option<ObjectId>, Refusal> {
        self.git.resolve(&branch.kept_name())
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
        if let Some(upstream) = &self.upstream {
            let detail = format!("'{}' has no branch '{name}'", upstream.url());
            return Refusal::new(Code::RefMissing, detail);
        }
        let detail = match self.place {
            Place::Served => format!("'{}' has no branch '{name}'", self.folder.display()),
            Place::Clone => format!(
                "this clone has no branch '{name}': git fetch origin {}",
                branch.refspec()
            ),
        };
        Refusal::new(Code::RefMissing, detail)
    }

    /// Fetches `branches` from the clone's `origin`, if it has one, and says whether one of them moved.
    ///
    /// # Errors
    /// What git says, and the command that has to succeed.
    pub fn fetch(&self, branches: &[Branch]) -> anyhow::Result<bool> {
        if !self.has_origin()? {
            return Ok(false);
        }
        let tips = || -> Result<Vec<_>, Refusal> {
            branches.iter().map(|branch| self.tip(*branch)).collect()
        };
        let before = tips()?;
        let refspecs: Vec<_> = branches.iter().map(|branch| branch.refspec()).collect();
        let mut args = vec!["fetch", "--quiet", "origin"];
        args.extend(refspecs.iter().map(String::as_str));
        let said = Program::new(&self.folder).say(&args, b"")?;
        if !said.success {
            let why = said.stderr.lines().next().unwrap_or_default();
            bail!("git fetch origin {} failed: {why}", refspecs.join(" "));
        }
        Ok(tips()? != before)
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
