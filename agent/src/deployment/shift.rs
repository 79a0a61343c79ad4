//! Shifting: requests go to the candidate. Promoted: the roles follow.

use state::Refusal;
use state::service::Traffic;

use crate::deployment::launch::Ready;
use crate::deployment::phase::{Event, Phase};
use crate::deployment::routes;
use crate::deployment::work::{Carried, Outcome, Work};
use crate::traffic::table::RouteTable;

impl Work {
    /// Shifting: requests go to the candidate. Only a slot that was ready is given any.
    pub(super) async fn shift(self, _ready: &Ready) -> Outcome {
        self.say("shifting requests");
        self.serve()
            .await
            .map(|()| (Event::Shifted, Carried::Nothing))
            .map_err(|refusal| self.failure(refusal))
    }

    /// Promoted: the proxy learns the new roles.
    pub(super) async fn flip(self) -> Outcome {
        self.serve()
            .await
            .map(|()| (Event::Flipped, Carried::Nothing))
            .map_err(|refusal| self.failure(refusal))
    }

    /// Has the proxy serve what the record calls for.
    pub(super) async fn serve(&self) -> Result<(), Refusal> {
        match self.traffic() {
            Some(traffic) => self.host.apply(&self.table(traffic)).await,
            None => Ok(()),
        }
    }

    /// The traffic of the release that has the requests in this phase.
    pub(super) fn traffic(&self) -> Option<&Traffic> {
        let to = self.to.spec.traffic.as_ref();
        let from = self
            .from
            .as_ref()
            .and_then(|from| from.spec.traffic.as_ref());
        match self.deployment.phase {
            Phase::Aborting => from.or(to),
            _ => to.or(from),
        }
    }

    pub(super) fn table(&self, traffic: &Traffic) -> RouteTable {
        routes::table(&self.record, traffic)
    }
}
