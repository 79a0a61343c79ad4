//! `agent once`: one pass, and all that follows from it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Exit, Place, runtime, status};
use crate::output::{self, Paint};
use crate::progress::Progress;
use crate::reconcile::Reconciler;
use crate::remotes::Patience;

/// How long remotes are waited for that are slower than the first one which passed: they may know something newer.
const LATE: Duration = Duration::from_secs(10);

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
        if let Err(refusal) = reconciler.pass(Patience::Deadlines).await {
            eprint!(
                "{}",
                output::refusal(&refusal, Paint::of(&std::io::stderr()))
            );
        }
        reconciler.settle().await;
        if late(&mut reconciler).await {
            reconciler.settle().await;
        }
        let host = reconciler.host();
        host.look_at_proxy().await;
        anyhow::Ok(host.board.read())
    })?;
    runtime.shutdown_background();
    let now = Timestamp::now();
    let shown = status::Shown { status, live: true };
    output::print(&status::render(&shown, now, Paint::of(&std::io::stdout())))?;
    Ok(status::exit(&shown.status, now))
}

/// Waits for the remotes that have not answered yet, and says whether any did.
async fn late(reconciler: &mut Reconciler) -> bool {
    let mut answered = false;
    let answers = async {
        while reconciler.is_looking() {
            reconciler.late().await;
            answered = true;
        }
    };
    // One that hangs is not waited for to its deadline.
    let _ = tokio::time::timeout(LATE, answers).await;
    // What is refused now is in the status.
    answered && reconciler.judge().is_ok()
}
