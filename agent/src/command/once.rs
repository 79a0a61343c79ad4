//! `agent once`: one pass, and all that follows from it.

use jiff::Timestamp;

use super::{Exit, Place, runtime, status};
use crate::output::{self, Paint};
use crate::progress::Progress;
use crate::reconcile::Reconciler;

/// Make one pass, bring every deployment to its end (bake included), and exit
///
/// Services and a managed proxy go on running. The exit code says whether all is well.
#[derive(Debug, clap::Args)]
pub(super) struct OnceArgs {}

pub(super) fn cmd_once(place: &Place) -> anyhow::Result<Exit> {
    let host = place.host(Progress::on_terminal())?;
    let runtime = runtime()?;
    let status = runtime.block_on(async {
        let mut reconciler = Reconciler::start(host)?;
        if let Err(refusal) = reconciler.pass().await {
            eprint!(
                "{}",
                output::refusal(&refusal, Paint::of(&std::io::stderr()))
            );
        }
        reconciler.settle().await;
        anyhow::Ok(reconciler.host().board.read())
    })?;
    runtime.shutdown_background();
    let now = Timestamp::now();
    let shown = status::Shown { status, live: true };
    output::print(&status::render(&shown, now, Paint::of(&std::io::stdout())))?;
    Ok(status::exit(&shown.status, now))
}
