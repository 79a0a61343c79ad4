//! `agent fetch-worker`: the process in which an agent's fetches happen; see [`state::git::worker`].

use anyhow::Context as _;
use clap::Args;

/// Answers fetch requests on standard input, under limits, until the input ends.
#[derive(Debug, Args)]
pub(super) struct FetchWorkerArgs {}

pub(super) fn cmd_fetch_worker() -> anyhow::Result<()> {
    state::git::worker::serve().context("cannot serve fetches")
}
