//! Baking: the new stable slot is watched. Committed: its release is the one to go back to.

use state::{Code, Refusal};

use crate::deployment::launch;
use crate::deployment::phase::Event;
use crate::deployment::work::{Carried, Outcome, Work};
use crate::probe::watch::{self, Watched};
use crate::runner::Restart;

impl Work {
    /// Baking: the slot must stay well until the time is over.
    pub(super) async fn bake(self) -> Outcome {
        self.serve()
            .await
            .map_err(|refusal| self.failure(refusal))?;
        let (slot, to) = (self.deployment.slot, &self.to);
        let Some(occupant) = self.record.slots.get(&slot) else {
            let refusal = Refusal::new(Code::ProcessExited, "nothing runs in the slot");
            return Err(self.failure(refusal));
        };
        let watched = Watched {
            service: to.service.clone(),
            slot,
            probes: to.spec.health.clone(),
            target: launch::target(&self.host, to, slot, occupant),
        };
        let ends = self.deployment.bake_ends.as_ref();
        // A bake of another boot, or of a record without this instant, is baked in full.
        let left = ends
            .and_then(|ends| ends.left(&self.host.boot))
            .unwrap_or_else(|| to.spec.strategy().bake().duration());
        self.say(&format!("baking for {}s", left.as_secs()));
        match tokio::time::timeout(left, watch::bake(&self.host, &watched)).await {
            Err(_) => Ok((Event::Baked, Carried::Nothing)),
            Ok(unwell) => Err(self.unwell(unwell)),
        }
    }

    /// Committed: from now on the slot is started again when it ends.
    pub(super) fn commit(self) -> (Event, Carried) {
        let slot = self.deployment.slot;
        let service = &self.to.service;
        if let Err(refusal) = self.host.runner.set_restart(service, slot, Restart::Always) {
            tracing::warn!(%service, %slot, %refusal, "the slot is not started again by itself");
        }
        (Event::Remembered, Carried::Nothing)
    }
}
