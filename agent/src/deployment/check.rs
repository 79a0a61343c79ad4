//! Ready: startup, identity, readiness of the candidate.

use state::service::Strategy;

use crate::deployment::launch::{self, Ready, Started};
use crate::deployment::phase::Event;
use crate::deployment::record::Failure;
use crate::deployment::work::{Carried, Outcome, Work};

impl Work {
    /// Ready: startup, identity, readiness.
    pub(super) async fn wait_ready(self, started: Started) -> Outcome {
        self.say("waiting until it is ready");
        let slot = self.deployment.slot;
        let ready = launch::wait_ready(&self.host, &self.to, slot, started)
            .await
            .map_err(|unwell| self.unwell(unwell))?;
        let event = match self.to.spec.strategy() {
            Strategy::BlueGreen(_) => Event::Answered,
            Strategy::Recreate(_) => Event::AnsweredAlone,
        };
        Ok((event, Carried::Ready(ready)))
    }

    /// After a crash while shifting: the slot is asked anew before it gets requests.
    pub(super) async fn ready_again(&self) -> Result<Ready, Failure> {
        let started = self.started().await?;
        launch::wait_ready(&self.host, &self.to, self.deployment.slot, started)
            .await
            .map_err(|unwell| self.unwell(unwell))
    }
}
