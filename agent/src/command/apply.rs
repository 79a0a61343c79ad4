//! `agent apply --stale`: break-glass, for the hour in which policy cannot be heard and a fix must start.

use anyhow::bail;
use state::text::Escaped;

use super::{Exit, Place, runtime};
use crate::output;
use crate::progress::Progress;
use crate::reconcile::Reconciler;
use crate::remotes::Patience;
use crate::remotes::exception::Decision;
use crate::socket::{self, Answer, Request};
use crate::user;

/// Let the newest verified admission start on this host though it is stale
///
/// It needs both signatures and every other step all the same. It is bound to that admission, written to the journal
/// with reason and user, survives a restart of the agent, and ends when something fresh is accepted or with --lift.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// Allow it, although nothing proves that it is the newest.
    #[arg(long, required_unless_present = "lift", requires = "reason")]
    stale: bool,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End it.
    #[arg(long, conflicts_with_all = ["stale", "reason"])]
    lift: bool,
}

pub(super) fn cmd_apply(place: &Place, args: &ApplyArgs) -> anyhow::Result<Exit> {
    let reason = args.reason.clone().unwrap_or_default();
    let sudo = std::env::var("SUDO_USER").ok();
    let request = match args.lift {
        true => Request::Lift { sudo: sudo.clone() },
        false => Request::ApplyStale {
            reason: reason.clone(),
            sudo: sudo.clone(),
        },
    };
    let said = match socket::ask(&place.layout.agent_socket(), &request)? {
        Some(Answer::Done(said)) => said,
        Some(other) => bail!("the agent answered something else: {other:?}"),
        None => {
            let user = user::who(rustix::process::geteuid().as_raw(), sudo.as_deref());
            let decision = match args.lift {
                true => Decision::Lift { user },
                false => Decision::ApplyStale { reason, user },
            };
            alone(place, &decision)?
        }
    };
    output::print(&format!("{}\n", Escaped(&said)))?;
    Ok(Exit::Well)
}

/// Without a running agent: looks at the remotes once more, decides under the lock, and brings what follows to its end.
fn alone(place: &Place, decision: &Decision) -> anyhow::Result<String> {
    let host = place.host(Progress::on_terminal())?;
    let runtime = runtime()?;
    let said = runtime.block_on(async {
        let mut reconciler = Reconciler::start(host)?;
        // That it is refused, or stale, is why somebody is here.
        let _ = reconciler.pass(Patience::Moment).await;
        let said = reconciler.decide(decision)?;
        reconciler.settle().await;
        Ok(said)
    });
    runtime.shutdown_background();
    said
}
