//! `policy pending [REPO]`: what `main` asks for and is not admitted, for what it waits and until when.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Exit;
use crate::branch::Branch;
use crate::judge::judge;
use crate::repository::Repository;
use crate::{candidate, collect, log};

/// Show what waits, for what and until when, judged from `main` and `admitted` now.
#[derive(Debug, Args)]
pub(super) struct PendingArgs {
    /// The bare repository, or a clone of it.
    #[arg(default_value = ".")]
    repository: PathBuf,
}

pub(super) fn run(args: &PendingArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(&args.repository)?;
    let now = Timestamp::now();
    let log = log::read(&repository, now)?;
    let tip = repository.require(Branch::Main)?;
    let author = match candidate::authenticated(&repository.git, &log, &tip) {
        Ok(author) => author,
        Err(refusals) => return Ok(super::refused(&refusals)),
    };
    let evidence = collect::collect(&repository, &log, &author, None, now)?;
    let judged = judge(
        log.admitted(),
        &author.rendered,
        &evidence,
        log.history(),
        now,
    );
    if judged.is_empty() {
        outln!("nothing waits");
    }
    Ok(super::say(&judged, &evidence, &author))
}
