//! `policy check [REV]`: what an author runs before pushing, offline. Reads, renders and judges as policy would.

use clap::Args;
use jiff::Timestamp;
use state::digest::ObjectId;
use state::render::{self, Rendered};
use state::{Code, Refusal};

use super::Exit;
use crate::candidate::{self, Candidate};
use crate::collect;
use crate::evidence::Evidence;
use crate::history::History;
use crate::judge::judge;
use crate::log;
use crate::output::{Colour, Paint};
use crate::repository::Repository;
use crate::{hold, worktree};

/// Check the work tree, or a commit, and say the verdict on every change against what is admitted.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The commit to check; by default the work tree, staged or not.
    rev: Option<String>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(".".as_ref())?;
    let paint = Paint::of(&std::io::stdout());
    let commit = args
        .rev
        .as_deref()
        .map(|rev| worktree::commit_of(&repository, rev));
    let commit = commit.transpose()?;
    let tree = match &args.rev {
        Some(rev) => worktree::tree_of(&repository, rev)?,
        None => worktree::tree(&repository)?,
    };
    match candidate::read(
        &repository.git,
        &tree,
        &candidate::LIMITS,
        candidate::NOWHERE,
    ) {
        Ok(candidate) => {
            let (releases, environments) = (
                candidate.rendered.releases.len(),
                candidate.rendered.rules.len(),
            );
            let valid = paint.paint(Colour::Green, "valid:");
            outln!("{valid} releases: {releases}, environments: {environments}");
            verdicts(&repository, commit.as_ref(), &candidate)
        }
        Err(refusals) => {
            outln!("problems: {}", refusals.len());
            Ok(super::refused(&refusals))
        }
    }
}

/// Judges the candidate against what is admitted, as far as the clone knows it; a commit is authenticated too.
fn verdicts(
    repository: &Repository,
    commit: Option<&ObjectId>,
    candidate: &Candidate,
) -> anyhow::Result<Exit> {
    let now = Timestamp::now();
    let Some(log) = log::fetched(repository, now)? else {
        outln!("nothing is admitted yet: everything is new");
        let authors = &candidate.rendered.holds;
        let evidence = Evidence {
            held: hold::next(&[], authors, None),
            ..Evidence::default()
        };
        let judged = judge(
            &Rendered::default(),
            &candidate.rendered,
            &evidence,
            &History::default(),
            now,
        );
        return Ok(super::say(&judged, &evidence, candidate));
    };
    let domain = render::repository(&candidate.snapshot.files)?.domain;
    if domain != *log.domain() {
        let detail = format!(
            "repository.yaml says {domain}, the first trust file is {}",
            log.domain()
        );
        return Err(Refusal::new(Code::WrongDomain, detail).into());
    }
    if let Some(Err(refusal)) = commit.map(|id| log.verified().candidate(&repository.git, id)) {
        return Ok(super::refused(&[refusal]));
    }
    let evidence = collect::collect(repository, &log, candidate, None, now)?;
    let judged = judge(
        log.admitted(),
        &candidate.rendered,
        &evidence,
        log.history(),
        now,
    );
    if judged.is_empty() && evidence.held == log.holds() {
        outln!("nothing would change");
    }
    Ok(super::say(&judged, &evidence, candidate))
}
