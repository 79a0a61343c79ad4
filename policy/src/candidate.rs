//! What a tree of `main` asks for: read by the rules of trees, within the trust file's limits, and rendered.

use state::commit::{self, Commit};
use state::digest::{ObjectId, PayloadHash};
use state::git::{Git, Kind};
use state::manifest::Manifest;
use state::release::Origin;
use state::render::{self, Rendered};
use state::tree::{self, Limits, Objects as _, Snapshot};
use state::{Refusal, limit};

use crate::log::Log;

/// The limits of a tree before there is a trust file: its defaults.
pub const LIMITS: Limits = limit::TREE;

/// Stands for the origin of what is not committed yet; no id depends on it.
pub const NOWHERE: Origin = Origin {
    commit: ObjectId([0; 20]),
    payload: PayloadHash([0; 32]),
};

/// A tree and what it renders to.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it comes from; [`NOWHERE`] if it is not committed.
    pub origin: Origin,
    /// Its files.
    pub snapshot: Snapshot,
    /// Its releases and rules.
    pub rendered: Rendered,
}

/// Reads and renders the tree `tree` of the commit `origin`, or says all that is wrong with it.
pub fn read(
    git: &Git,
    tree: &ObjectId,
    limits: &Limits,
    origin: Origin,
) -> Result<Candidate, Vec<Refusal>> {
    let snapshot = tree::read(git, tree, limits).map_err(|refusal| vec![refusal])?;
    let rendered = render::all(&snapshot.files, &origin)?;
    Ok(Candidate {
        origin,
        snapshot,
        rendered,
    })
}

/// Reads and renders the commit `id` of `main`, within the limits of the trust file in force.
pub fn of_commit(git: &Git, log: &Log, id: &ObjectId) -> Result<Candidate, Vec<Refusal>> {
    let parsed = git
        .object(Kind::Commit, id, commit::MAX_BYTES)
        .and_then(|raw| Commit::parse(*id, &raw));
    let commit = parsed.map_err(|refusal| vec![refusal])?;
    read(git, &commit.tree, &log.trust().limits, commit.origin())
}

/// Reads and renders the commit of `main` that a past admission was made from, within the limits of its time.
pub fn of_admission(
    git: &Git,
    limits: &Limits,
    manifest: &Manifest,
) -> Result<Candidate, Vec<Refusal>> {
    let id = manifest.author.commit;
    let tree = git
        .object(Kind::Commit, &id, commit::MAX_BYTES)
        .and_then(|raw| Commit::parse(id, &raw))
        .map_err(|refusal| vec![refusal])?
        .tree;
    read(git, &tree, limits, manifest.author.clone())
}

/// Authenticates every commit from the last judged one to `tip`, then reads and renders `tip`.
pub fn authenticated(git: &Git, log: &Log, tip: &ObjectId) -> Result<Candidate, Vec<Refusal>> {
    let walked = log.verified().candidate(git, tip);
    walked.map_err(|refusal| vec![refusal])?;
    of_commit(git, log, tip)
}
