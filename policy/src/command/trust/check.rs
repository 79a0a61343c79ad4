//! `policy trust check FILE`: what a trust file changes, what it does to the log, and whose signature is missing.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use state::Refusal;
use state::trust::Trust;
use state::verify::Chain;

use super::{Draft, FileArgs};
use crate::ceremony::effect::{Effect, effect};
use crate::command::Exit;
use crate::log;
use crate::repository::Repository;

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

fn check_log(repository: &Path, next: &Trust) -> anyhow::Result<()> {
    let repository = Repository::open(repository)?;
    let chain = log::trust(&repository)?;
    if chain.newest().version < next.version {
        print_effect(&repository, &chain, next)?;
    }
    Ok(())
}

/// Prints what becomes of the log if `next` follows `chain`.
///
/// # Errors
/// Those of [`effect`].
pub(super) fn print_effect(
    repository: &Repository,
    chain: &Chain,
    next: &Trust,
) -> Result<(), Refusal> {
    match effect(repository, &chain.supposing(next.clone()), Timestamp::now())? {
        Effect::Kept(last) => outln!("log: counts up to {last}, its end"),
        Effect::Anchored(last, next) => outln!("log: counts up to {last}, goes on with {next}"),
    }
    Ok(())
}
