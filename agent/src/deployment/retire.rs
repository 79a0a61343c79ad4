//! Draining: a slot ends its requests and stops.

use std::time::Duration;

use state::Refusal;
use state::name::ServiceName;

use crate::deployment::phase::Event;
use crate::deployment::record::Occupant;
use crate::deployment::work::Work;
use crate::disk;
use crate::fs;
use crate::host::Host;
use crate::journal::Kind;
use crate::runner::Stopped;
use crate::slot::{Role, Slot};
use crate::traffic::table::Address;

/// Waits for the requests of a slot of weight 0 to end, at most for `drain`, then stops it.
pub async fn drain_and_stop(
    host: &Host,
    service: &ServiceName,
    slot: Slot,
    occupant: &Occupant,
    drain: Option<Duration>,
) -> Result<(), Refusal> {
    if let Some(limit) = drain {
        match host.proxy.drain(service, slot, limit).await {
            Ok(0) => {}
            Ok(left) => tracing::warn!(%service, %slot, left, "requests outlast the drain"),
            // Without a proxy there are no requests.
            Err(refusal) => tracing::warn!(%service, %slot, %refusal, "cannot drain"),
        }
    }
    stop(host, service, slot, occupant).await
}

/// Stops a slot: asks its processes to end as its release says, and kills what is left, which is told.
pub async fn stop(
    host: &Host,
    service: &ServiceName,
    slot: Slot,
    occupant: &Occupant,
) -> Result<(), Refusal> {
    let stop = host.runner.spec(service, slot).map(|spec| spec.stop);
    let stop = stop.unwrap_or_default();
    let within = stop.within;
    if host.runner.stop(service, slot, within.duration()).await? == Stopped::Killed {
        let text = format!("killed {slot}: it had {within} to end and did not (`run.stop.within`)");
        host.note_of(service, Kind::Slot, &text);
    }
    let credentials = host.service(service).slot_credentials(slot);
    fs::remove(&credentials).map_err(|error| disk::failed(&credentials, &error))?;
    if let Some(Address::Tcp(address)) = &occupant.address {
        host.ports.give_back(address.port());
    }
    Ok(())
}

impl Work {
    /// Draining: the old slot ends its requests and stops.
    pub(super) async fn drain(&self) -> Result<Event, Refusal> {
        let service = &self.to.service;
        if let Some((slot, occupant)) = self.record.with_role(Role::Draining) {
            self.say("draining the old slot");
            let drain = self.traffic().map(|traffic| traffic.drain.duration());
            drain_and_stop(&self.host, service, slot, occupant, drain).await?;
        }
        Ok(Event::Drained)
    }
}
