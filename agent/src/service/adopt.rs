//! After a record was lost: what runs is found again by the routing table and the slots' own orders, and left alone.
//! Nothing of it counts as verified until an intake has verified it anew.

use jiff::Timestamp;
use state::durable::Extra;
use state::name::ServiceName;
use state::release::Release;

use crate::deployment::record::{Kept, Occupant, Record};
use crate::host::Host;
use crate::releases;
use crate::runner::{SlotSpec, SlotStatus};
use crate::slot::{Role, Slot};
use crate::traffic::table::{Address, RouteTable};

/// A record of what runs: the slot with the requests, or for a worker the one that was started last.
pub(crate) fn adopt(host: &Host, service: &ServiceName) -> Record {
    let mut record = Record::new(service.clone());
    let layout = host.service(service);
    let table = RouteTable::load(&host.layout.routes(), service)
        .ok()
        .flatten();
    record.generation = table.as_ref().map_or(0, |table| table.generation);
    let releases = releases::releases(&layout);
    record.deployments = releases.last().map_or(0, |(_, number)| *number);
    let running = [Slot::Blue, Slot::Green].into_iter().filter(|slot| {
        let status = host.runner.status(service, *slot);
        matches!(status, SlotStatus::Running { .. })
    });
    let weight = |slot: &Slot| {
        let table = table.as_ref()?;
        table.slots.get(slot).map(|backend| backend.weight)
    };
    let found = running.filter_map(|slot| Some((slot, occupant(host, service, slot)?)));
    let stable = found.max_by_key(|(slot, occupant)| (weight(slot), occupant.kept.number));
    if let Some((slot, occupant)) = stable {
        record.last_good = Some(occupant.kept.clone());
        record.slots.insert(slot, occupant);
    }
    record
}

fn occupant(host: &Host, service: &ServiceName, slot: Slot) -> Option<Occupant> {
    let spec = host.runner.spec(service, slot)?;
    let name = spec.release.file_name()?.to_str()?;
    let number = name.split_once('-')?.1.parse().ok()?;
    let bytes = std::fs::read(spec.release.join("release.yaml")).ok()?;
    let environment = host.config.environment.clone();
    let release = Release::from_yaml(environment, service.clone(), &bytes).ok()?;
    Some(Occupant {
        role: Role::Stable,
        kept: Kept {
            release: release.id(),
            source: release.spec.source.commit,
            number,
            extra: Extra::default(),
        },
        address: address(&spec),
        attempt: spec.attempt,
        since: Timestamp::now(),
        extra: Extra::default(),
    })
}

fn address(spec: &SlotSpec) -> Option<Address> {
    let port = spec
        .environment
        .get("PORT")
        .and_then(|port| port.parse::<u16>().ok());
    let socket = spec
        .environment
        .get("SOCKET")
        .map(|path| Address::Unix(path.into()));
    port.map(|port| Address::Tcp(([127, 0, 0, 1], port).into()))
        .or(socket)
}
