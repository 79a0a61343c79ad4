//! `agent shim`: supervises one slot; started by the agent, never by people.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::runner::shim;

/// Supervise the processes of one slot
#[derive(Debug, clap::Args)]
pub(super) struct ShimArgs {
    /// The slot's folder, with its order.
    slot: PathBuf,
}

pub(super) fn cmd_shim(args: &ShimArgs) -> anyhow::Result<()> {
    shim::run(&args.slot).with_context(|| format!("cannot supervise '{}'", args.slot.display()))
}
