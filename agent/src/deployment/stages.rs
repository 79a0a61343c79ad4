//! The effect of each stage. Doing one twice is harmless: names are deterministic, and what is done already is found so.
//! Which stage is next is not decided here, see [`crate::deployment::pipeline`].

use state::{Code, Refusal};

use crate::deployment::phase::Phase;
use crate::deployment::work::{Carried, Outcome, Work};

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
