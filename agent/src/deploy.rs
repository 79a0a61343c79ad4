//! The effect of each phase of a deployment. Doing one twice is harmless: names are deterministic, and what is done
//! already is found so. Which phase is next is not decided here, see [`crate::deployment`].

mod make;
mod swap;

use std::sync::Arc;

use state::release::Release;
use state::verify::Verified;
use state::{Code, Refusal};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::build::{Compiled, Tested};
use crate::deployment::{Event, Phase};
use crate::host::Host;
use crate::layout::ServiceLayout;
use crate::record::{Deployment, Failure, Record};
use crate::source::Fetched;
use crate::start::{Ready, Started};

/// How many lines of a slot's log are kept with a failure.
const LOG_LINES: usize = 50;

/// What one phase hands to the next within one process. A crash loses it, and the phases are begun again without.
#[derive(Debug, Default)]
pub(crate) enum Carried {
    /// Nothing.
    #[default]
    Nothing,
    /// From Pending to Building.
    Source(Fetched),
    /// From Building to Testing.
    Compiled(Compiled, OwnedSemaphorePermit),
    /// From Testing to Staged.
    Tested(Tested, OwnedSemaphorePermit),
    /// From Starting to Ready.
    Started(Started),
    /// From Ready to Shifting: the permission to give a slot requests.
    Ready(Ready),
}

/// One phase of one deployment, with all that its effect needs.
pub(crate) struct Work {
    pub(crate) host: Arc<Host>,
    pub(crate) record: Record,
    pub(crate) deployment: Deployment,
    pub(crate) to: Arc<Verified<Release>>,
    /// What has, or had, the requests, if its file could be read.
    pub(crate) from: Option<Arc<Verified<Release>>>,
    pub(crate) carried: Carried,
    /// Is told what the phase waits for, while it does.
    pub(crate) waits: watch::Sender<Option<String>>,
}

/// What came of an effect.
pub(crate) type Outcome = Result<(Event, Carried), Failure>;

/// Brings the effect of the deployment's phase about.
pub(crate) async fn effect(mut work: Work) -> Outcome {
    let carried = std::mem::take(&mut work.carried);
    match (work.deployment.phase, carried) {
        (Phase::Pending, _) => work.fetch().await,
        (Phase::Building, Carried::Source(source)) => work.build(&source).await,
        (Phase::Testing, Carried::Compiled(compiled, permit)) => work.test(compiled, permit).await,
        (Phase::Staged, Carried::Tested(tested, permit)) => work.stage(tested, permit).await,
        (Phase::Starting, _) => work.start().await,
        (Phase::Ready, Carried::Started(started)) => work.wait_ready(started).await,
        (Phase::Ready, _) => {
            let started = work.started().await?;
            work.wait_ready(started).await
        }
        (Phase::Shifting, Carried::Ready(ready)) => work.shift(&ready).await,
        (Phase::Shifting, _) => {
            let ready = work.ready_again().await?;
            work.shift(&ready).await
        }
        (Phase::Promoted, _) => work.flip().await,
        (Phase::Baking, _) => work.bake().await,
        (Phase::Committed, _) => Ok(work.commit()),
        (Phase::Draining, _) => Ok(work.persist(Work::drain).await),
        (Phase::Aborting, _) => Ok(work.persist(Work::restore).await),
        (Phase::Building | Phase::Testing | Phase::Staged, _) => {
            Err(work.failure(Refusal::new(Code::Interrupted, "what was built is lost")))
        }
        (Phase::Retired | Phase::RolledBack | Phase::Failed, _) => {
            Err(work.failure(Refusal::new(Code::Interrupted, "the deployment has ended")))
        }
        // Never begun: a record with such a phase is not taken up.
        (Phase::Unknown(phase), _) => {
            Err(work.failure(Refusal::new(Code::StateNewer, phase.as_str())))
        }
    }
}

impl Work {
    fn layout(&self) -> ServiceLayout {
        self.host.service(&self.to.service)
    }

    fn say(&self, what: &str) {
        self.host.progress.say(&self.to.service, what);
    }

    /// Waits for something that another deployment has.
    fn waits_for(&self, what: &str) {
        self.say(&format!("waiting for {what}"));
        self.waits.send_replace(Some(what.to_owned()));
    }

    fn failure(&self, refusal: Refusal) -> Failure {
        let phase = self.deployment.phase;
        let log = if phase.needs_processes() {
            let slot = self.deployment.slot;
            self.host
                .runner
                .last_lines(&self.to.service, slot, LOG_LINES)
        } else {
            Vec::new()
        };
        Failure {
            log,
            ..Failure::new(refusal, phase)
        }
    }
}

/// Runs what blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Refusal::new(Code::Interrupted, error.to_string())))
}
