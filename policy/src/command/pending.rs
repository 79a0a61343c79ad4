//! `policy pending [REPO]`: what `main` asks for and is not admitted, for what it waits and until when.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Exit;
use crate::repository::{Branch, Repository};
use crate::{candidate, evidence, log};

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
    let evidence = evidence::collect(&repository, &log, &author, None, now)?;
    let judged = log.judge(&author.rendered, &evidence, now);
    if judged.is_empty() {
        outln!("nothing waits");
    }
    Ok(super::say(&judged, &evidence, &author))
}
