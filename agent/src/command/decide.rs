//! `agent rollback|hold|resume|retry SERVICE`: what an operator decides on this host.

use std::sync::Arc;

use anyhow::bail;
use state::name::ServiceName;
use state::{Code, Refusal};

use super::{Exit, Place, runtime};
use crate::output;
use crate::progress::Progress;
use crate::reconcile::Reconciler;
use crate::service::Ask;
use crate::socket::{self, Answer, Request};

/// Bring back an earlier release and hold the admitted one
///
/// It lasts until another release is admitted, or until `agent resume`.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The service.
    service: ServiceName,
    /// The first digits of the release's id; the last good one before the one that runs if left out.
    #[arg(long, value_name = "RELEASE")]
    to: Option<String>,
}

/// Keep what runs, whatever is admitted, until `agent resume`
#[derive(Debug, clap::Args)]
pub(super) struct HoldArgs {
    /// The service.
    service: ServiceName,
}

/// End a hold or a rollback
#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    /// The service.
    service: ServiceName,
}

/// Try a release again that failed
#[derive(Debug, clap::Args)]
pub(super) struct RetryArgs {
    /// The service.
    service: ServiceName,
}

pub(super) fn cmd_rollback(place: &Place, args: &RollbackArgs) -> anyhow::Result<Exit> {
    let to = args.to.clone();
    decide(place, &args.service, Ask::Rollback { to })
}

pub(super) fn cmd_hold(place: &Place, args: &HoldArgs) -> anyhow::Result<Exit> {
    decide(place, &args.service, Ask::Hold {})
}

pub(super) fn cmd_resume(place: &Place, args: &ResumeArgs) -> anyhow::Result<Exit> {
    decide(place, &args.service, Ask::Resume {})
}

pub(super) fn cmd_retry(place: &Place, args: &RetryArgs) -> anyhow::Result<Exit> {
    decide(place, &args.service, Ask::Retry {})
}

fn decide(place: &Place, service: &ServiceName, decision: Ask) -> anyhow::Result<Exit> {
    let request = Request::Decide {
        service: service.clone(),
        decision: decision.clone(),
    };
    let said = match socket::ask(&place.layout.agent_socket(), &request)? {
        Some(Answer::Done(said)) => said,
        Some(other) => bail!("the agent answered something else: {other:?}"),
        None => alone(place, service, decision)?,
    };
    output::print(&format!("{service}: {said}\n"))?;
    Ok(Exit::Well)
}

/// Without a running agent: decides under the lock, and brings a rollback to its end.
fn alone(place: &Place, service: &ServiceName, decision: Ask) -> anyhow::Result<String> {
    if !place.layout.service(service).record().exists() {
        return Err(Refusal::new(Code::UnknownService, format!("'{service}'")).into());
    }
    let host = place.host(Progress::on_terminal())?;
    let runtime = runtime()?;
    let said = runtime.block_on(async {
        let mut reconciler = Reconciler::start(host)?;
        let services = Arc::clone(reconciler.services());
        let said = services.ask(service, decision).await?;
        reconciler.settle().await;
        Ok(said)
    });
    runtime.shutdown_background();
    said
}
