//! `policy trust check FILE`: what a trust file changes, what it does to the log, and whose signature is missing.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use state::trust::Trust;
use state::verify::{self, Chain};
use state::{Code, Refusal};

use super::{Draft, FileArgs};
use crate::command::Exit;
use crate::log;
use crate::repository::{Branch, Repository};

/// Check a trust file: what it changes, and whose signature is missing.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    files: FileArgs,
    /// The bare repository, or a clone of it, whose log must still count under this file.
    #[arg(long, value_name = "REPO")]
    log: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let draft = Draft::read(&args.files)?;
    draft.print()?;
    if let Some(repository) = &args.log {
        check_log(repository, &draft.trust)?;
    }
    draft.count(&draft.signatures)
}

/// Says what would become of the log if `next` were in force.
fn check_log(repository: &Path, next: &Trust) -> anyhow::Result<()> {
    let repository = Repository::open(repository)?;
    let chain = log::trust(&repository)?;
    if chain.newest().version >= next.version {
        return Ok(());
    }
    would_keep(&repository, &chain, next)?;
    Ok(())
}

/// Checks that the log which counts under `chain` still does under `next`, but for what its anchor leaves behind.
///
/// # Errors
/// `KEY_ENDED`, or what else an agent would refuse an admission for.
pub(super) fn would_keep(
    repository: &Repository,
    chain: &Chain,
    next: &Trust,
) -> Result<(), Refusal> {
    let Some(tip) = repository.tip(Branch::Admitted)? else {
        return Ok(());
    };
    let now = Timestamp::now();
    let log = verify::log(
        &repository.git,
        chain.supposing(next.clone()),
        Some(&tip),
        now,
    );
    let log = log.map_err(|refusal| refusal.at("the log under this file"))?;
    let last = log.last().map_or(0, |entry| entry.manifest.sequence);
    match log.junk() {
        _ if log.is_at_anchor() => {
            let next = log.link().sequence.saturating_add(1);
            outln!("log: counts up to {last}, goes on with {next}");
            Ok(())
        }
        Some(refusal) => {
            let detail = format!(
                "the log would end at {last}: {}; end the key later, or give an anchor",
                refusal.detail
            );
            Err(Refusal::new(Code::KeyEnded, detail))
        }
        None => {
            outln!("log: counts up to {last}, its end");
            Ok(())
        }
    }
}
