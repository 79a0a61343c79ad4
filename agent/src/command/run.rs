//! `agent run`: the agent as a daemon.

use super::{Exit, Place, daemon_runtime};
use crate::daemon;
use crate::progress::Progress;

/// Bring what is admitted to this host, again and again, until SIGTERM
///
/// Services and proxy outlive the agent: it may stop, crash or be upgraded at any time, and the next one takes them over.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {}

pub(super) fn cmd_run(place: &Place) -> anyhow::Result<Exit> {
    let host = place.host(Progress::default())?;
    let runtime = daemon_runtime()?;
    let result = runtime.block_on(daemon::run(host, place.config.clone()));
    // A fetch or a build that is under way is cut short; the next agent begins it again.
    runtime.shutdown_background();
    result.map(|()| Exit::Well)
}
