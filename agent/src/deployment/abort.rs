//! Aborting: requests go back first, then the candidate stops, then the stable slot is made sure of.

use std::time::Duration;

use state::{Code, Refusal};

use crate::deployment::launch;
use crate::deployment::phase::Event;
use crate::deployment::retire;
use crate::deployment::work::{Carried, Work};
use crate::runner::{Restart, SlotStatus};
use crate::slot::{Role, Slot};
use crate::traffic::table::Address;
use crate::user::Account;

/// The longest wait between two tries of an effect that must succeed.
const RETRY: Duration = Duration::from_secs(30);

impl Work {
    /// Aborting: first the requests go back, then the candidate ends those that it has and stops, then the stable slot is
    /// made sure of.
    pub(super) async fn restore(&self) -> Result<Event, Refusal> {
        self.say("going back");
        match self.serve().await {
            // Nothing had requests, and the address is not to be had: there is nothing to bring back.
            Err(refusal) if refusal.code.is_listen() && self.record.stable().is_none() => {}
            // The requests never moved, and a proxy that comes back reads the table's file.
            Err(refusal) if refusal.code == Code::ProxyUnavailable && !self.requests_moved() => {}
            served => served?,
        }
        let (host, service) = (&self.host, &self.to.service);
        if let Some((slot, occupant)) = self.record.with_role(Role::Candidate) {
            let traffic = self.to.spec.traffic.as_ref();
            let drain = traffic.map(|traffic| traffic.drain.duration());
            retire::drain_and_stop(host, service, slot, occupant, drain).await?;
        }
        let Some((slot, occupant)) = self.record.stable() else {
            return Ok(Event::Emptied);
        };
        if self.lost_its_data(slot)? {
            retire::stop(host, service, slot, occupant).await?;
            if let Some(Address::Tcp(address)) = &occupant.address {
                host.ports.note(address.port());
            }
        }
        let running = host.runner.status(service, slot);
        if let (Some(from), false) = (&self.from, matches!(running, SlotStatus::Running { .. })) {
            let started = launch::start(host, from, slot, occupant, Restart::Always).await?;
            if let Err(unwell) = launch::wait_ready(host, from, slot, started).await {
                // It is what ran before, and there is nothing else to go back to.
                tracing::warn!(%service, refusal = %unwell.refusal, "the old release is not ready");
            }
        }
        Ok(Event::Restored)
    }

    /// Says whether `slot` runs as another account than the service's, to which the candidate's start gave its data.
    fn lost_its_data(&self, slot: Slot) -> Result<bool, Refusal> {
        let (host, service) = (&self.host, &self.to.service);
        let account = host.accounts.of(service)?.map(Account::slot);
        let spec = host.runner.spec(service, slot);
        Ok(account.is_some() && spec.is_some_and(|spec| spec.user != account))
    }

    /// Says whether the candidate may have had requests before the deployment was broken off.
    fn requests_moved(&self) -> bool {
        let cause = self.deployment.cause.as_ref();
        cause.is_none_or(|cause| !cause.phase.is_replaceable())
    }

    /// Tries an effect again until it succeeds: there is nothing to fall back to.
    pub(super) async fn persist<'a, F>(&'a self, effect: impl Fn(&'a Self) -> F) -> (Event, Carried)
    where
        F: Future<Output = Result<Event, Refusal>> + 'a,
    {
        let mut wait = Duration::from_millis(500);
        loop {
            match effect(self).await {
                Ok(event) => return (event, Carried::Nothing),
                Err(refusal) => {
                    let (service, phase) = (&self.to.service, self.deployment.phase);
                    tracing::warn!(%service, %phase, %refusal, "tried again in {wait:?}");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY);
        }
    }
}
