//! `policy diff [A..B]`: the rendered difference, release by release.

use clap::Args;
use jiff::Timestamp;
use state::Refusal;
use state::digest::ObjectId;
use state::git::Git;
use state::name::EnvironmentName;
use state::render::Rendered;

use super::Exit;
use crate::change::changes;
use crate::difference::difference;
use crate::output::Paint;
use crate::repository::Repository;
use crate::{candidate, log, worktree};

/// Show what differs once everything is rendered: by default what is admitted against the work tree.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Two revisions, each of `main` or of `admitted`; without B the work tree.
    #[arg(value_name = "A[..B]")]
    range: Option<String>,
    /// Only this environment.
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
}

pub(super) fn run(args: &DiffArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(".".as_ref())?;
    let paint = Paint::of(&std::io::stdout());
    let (from, to) = match args
        .range
        .as_deref()
        .map(|range| range.split_once("..").unwrap_or((range, "")))
    {
        Some((from, to)) => (from, to),
        None => ("", ""),
    };
    let old = match from {
        "" => Ok(admitted(&repository)?),
        rev => side(&repository.git, &worktree::tree_of(&repository, rev)?),
    };
    let new = match to {
        "" => side(&repository.git, &worktree::tree(&repository)?),
        rev => side(&repository.git, &worktree::tree_of(&repository, rev)?),
    };
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(refusals), _) | (_, Err(refusals)) => {
            return Ok(super::refused(&refusals));
        }
    };
    let mut changes = changes(&old, &new);
    if let Some(environment) = &args.environment {
        changes.retain(|change| change.environment == *environment);
    }
    out!("{}", difference(&changes, &old, &new, paint));
    Ok(Exit::Done)
}

/// What is admitted, as far as the clone has fetched it.
fn admitted(repository: &Repository) -> anyhow::Result<Rendered> {
    let log = log::fetched(repository, Timestamp::now())?;
    Ok(log.map(|log| log.admitted().clone()).unwrap_or_default())
}

/// What `tree` says should run: read, if it is a tree of `admitted`; else rendered.
fn side(git: &Git, tree: &ObjectId) -> Result<Rendered, Vec<Refusal>> {
    let snapshot =
        state::tree::read(git, tree, &candidate::LIMITS).map_err(|refusal| vec![refusal])?;
    if snapshot.files.contains_key("manifest") {
        return crate::admitted::parse(&snapshot.files).map_err(|refusal| vec![refusal]);
    }
    state::render::all(&snapshot.files, &candidate::NOWHERE)
}
