//! From a release in its place to the one that has the requests, or back: Starting to Draining, and Aborting.

use std::net::TcpListener;
use std::time::Duration;

use state::service::{Strategy, Traffic};
use state::{Code, Refusal};

use super::{Carried, Outcome, Work};
use crate::accounts::Account;
use crate::check::Unwell;
use crate::deployment::{Event, Phase};
use crate::observe::{self, Watched};
use crate::proxy::not_bound;
use crate::record::Failure;
use crate::route::{Address, RouteTable};
use crate::runner::{Restart, SlotStatus};
use crate::slot::{Role, Slot};
use crate::start::{self, Ready, Started};
use crate::{retire, shift};

/// The longest wait between two tries of an effect that must succeed.
const RETRY: Duration = Duration::from_secs(30);

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
        start::start(&self.host, &self.to, slot, occupant, Restart::Never)
            .await
            .map_err(|refusal| self.failure(refusal))
    }

    /// Ready: startup, identity, readiness.
    pub(super) async fn wait_ready(self, started: Started) -> Outcome {
        self.say("waiting until it is ready");
        let slot = self.deployment.slot;
        let ready = start::wait_ready(&self.host, &self.to, slot, started)
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
        start::wait_ready(&self.host, &self.to, self.deployment.slot, started)
            .await
            .map_err(|unwell| self.unwell(unwell))
    }

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
            target: start::target(&self.host, to, slot, occupant),
        };
        let ends = self.deployment.bake_ends.as_ref();
        // A bake of another boot, or of a record without this instant, is baked in full.
        let left = ends
            .and_then(|ends| ends.left(&self.host.boot))
            .unwrap_or_else(|| to.spec.strategy().bake().duration());
        self.say(&format!("baking for {}s", left.as_secs()));
        match tokio::time::timeout(left, observe::bake(&self.host, &watched)).await {
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

    /// Draining: the old slot ends its requests and stops.
    pub(super) async fn drain(&self) -> Result<Event, Refusal> {
        let service = &self.to.service;
        if let Some((slot, occupant)) = self.record.with_role(Role::Draining) {
            self.say("draining the old slot");
            let drain = self.traffic().map(|traffic| traffic.drain.duration());
            retire::drain_and_stop(&self.host, service, slot, occupant, drain).await?;
        }
        Ok(Event::Drained)
    }

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
            let started = start::start(host, from, slot, occupant, Restart::Always).await?;
            if let Err(unwell) = start::wait_ready(host, from, slot, started).await {
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
        shift::table(&self.record, traffic)
    }

    fn unwell(&self, unwell: Unwell) -> Failure {
        let mut failure = self.failure(unwell.refusal);
        failure.probe = unwell.answer.map(|answer| {
            format!(
                "{} → {} ({} ms)",
                answer.request, answer.answer, answer.milliseconds
            )
        });
        failure
    }
}
