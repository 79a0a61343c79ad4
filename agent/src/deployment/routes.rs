//! The routing table that follows from a record.

use state::durable::{Extra, Format};
use state::service::Traffic;

use crate::deployment::phase::Phase;
use crate::deployment::record::Record;
use crate::slot::Role;
use crate::traffic::table::{Backend, RouteTable};

/// The routing table that `record` calls for. Pure: the same record gives the same table, after a crash too.
pub fn table(record: &Record, traffic: &Traffic) -> RouteTable {
    let shifting = record
        .active()
        .is_some_and(|deployment| deployment.phase == Phase::Shifting);
    let slots = record.slots.iter().filter_map(|(slot, occupant)| {
        let weight = match occupant.role {
            Role::Stable => !shifting,
            Role::Candidate => shifting,
            Role::Draining | Role::Idle | Role::Unknown(_) => false,
        };
        let backend = Backend {
            address: occupant.address.clone()?,
            weight: if weight { RouteTable::MAX_WEIGHT } else { 0 },
            role: occupant.role,
            extra: Extra::default(),
        };
        Some((*slot, backend))
    });
    RouteTable {
        format: Format::current(),
        service: record.service.clone(),
        listen: traffic.listen,
        trust: traffic.trust.clone(),
        generation: record.generation,
        slots: slots.collect(),
        extra: Extra::default(),
    }
}
