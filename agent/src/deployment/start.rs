//! Starting: the candidate's process.

use std::net::TcpListener;

use state::service::Strategy;
use state::{Code, Refusal};

use crate::deployment::launch::{self, Started};
use crate::deployment::phase::Event;
use crate::deployment::record::Failure;
use crate::deployment::work::{Carried, Outcome, Work};
use crate::proxy::not_bound;
use crate::runner::Restart;

impl Work {
    /// Starting: claims the listen address, with recreate stops the old slot, and starts the new one.
    pub(super) async fn start(self) -> Outcome {
        self.say("starting");
        self.claim_address()
            .await
            .map_err(|refusal| self.failure(refusal))?;
        if matches!(self.to.spec.strategy(), Strategy::Recreate(_)) {
            self.drain()
                .await
                .map_err(|refusal| self.failure(refusal))?;
        }
        let started = self.started().await?;
        Ok((Event::Started, Carried::Started(started)))
    }

    /// Binds the address that clients will use, before anything is touched: at once for a new service, as a try where
    /// the old release still has another one.
    pub(super) async fn claim_address(&self) -> Result<(), Refusal> {
        let Some(traffic) = &self.to.spec.traffic else {
            return Ok(());
        };
        let from = self
            .from
            .as_ref()
            .and_then(|from| from.spec.traffic.as_ref());
        match from {
            Some(from) if from.listen != traffic.listen => {
                TcpListener::bind(traffic.listen)
                    .map(drop)
                    .map_err(|error| not_bound(traffic.listen, &error))?;
                self.host.apply(&self.table(from)).await
            }
            _ => self.host.apply(&self.table(traffic)).await,
        }
    }

    pub(super) async fn started(&self) -> Result<Started, Failure> {
        let slot = self.deployment.slot;
        let occupant = self.record.slots.get(&slot).ok_or_else(|| {
            self.failure(Refusal::new(
                Code::StartFailed,
                "the slot was given to nobody",
            ))
        })?;
        launch::start(&self.host, &self.to, slot, occupant, Restart::Never)
            .await
            .map_err(|refusal| self.failure(refusal))
    }
}
