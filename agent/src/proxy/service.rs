//! The table in force for one service, and the claim by which a request takes a slot.
//!
//! A request claims: it picks a slot, counts itself in flight there, and looks again whether the table is still the
//! same; if not, it gives the slot back and begins anew. So once [`Service::replace`] has returned, no request goes
//! to a slot whose new weight is 0, and every request that went there before is counted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use arc_swap::ArcSwap;

use state::durable::Extra;

use super::body;
use super::header::Trust;
use super::limit::Limits;
use super::pool::Pool;
use super::protocol::{Counters, Observed, ObservedSlot};
use crate::slot::Slot;
use crate::traffic::table::{Address, RouteTable};

/// What the proxy holds for one service.
pub(super) struct Service {
    live: ArcSwap<Live>,
    turn: AtomicU64,
    pub(super) limits: Limits,
}

/// One table with the state of its slots.
struct Live {
    table: RouteTable,
    targets: BTreeMap<Slot, Arc<Target>>,
}

/// A slot at one address; it outlives tables, so its connections and counters do.
pub(super) struct Target {
    address: Address,
    pub(super) pool: Arc<Pool<body::Request>>,
    in_flight: AtomicU64,
    requests: AtomicU64,
    pub(super) errors_5xx: AtomicU64,
    pub(super) connect_failures: AtomicU64,
    pub(super) lost: AtomicU64,
}

impl Service {
    pub(super) fn new(table: RouteTable, limits: Limits) -> Self {
        Self {
            live: ArcSwap::from_pointee(Live::new(table, None, limits)),
            turn: AtomicU64::new(0),
            limits,
        }
    }

    /// The table in force.
    pub(super) fn table(&self) -> RouteTable {
        self.live.load().table.clone()
    }

    /// Whether the word of a peer counts.
    pub(super) fn trust(&self, peer: IpAddr) -> Trust {
        let live = self.live.load();
        if live
            .table
            .trust
            .iter()
            .any(|network| network.contains(&peer))
        {
            Trust::Peer
        } else {
            Trust::Nobody
        }
    }

    /// Puts `table` in force. The caller sees to it that there is one replacement at a time.
    pub(super) fn replace(&self, table: RouteTable) {
        let live = Live::new(table, Some(&self.live.load()), self.limits);
        self.live.store(Arc::new(live));
        // Pairs with the fence in `claim`: either the claim sees this table, or an observer sees the claim.
        fence(Ordering::SeqCst);
    }

    /// Takes a slot for one request; `None` if no slot has a weight.
    pub(super) fn claim(&self) -> Option<Claim> {
        loop {
            let live = self.live.load();
            let claim = Claim::new(live.choose(self.turn.fetch_add(1, Ordering::Relaxed))?);
            fence(Ordering::SeqCst);
            if Arc::ptr_eq(&live, &self.live.load()) {
                claim.target.requests.fetch_add(1, Ordering::Relaxed);
                return Some(claim);
            }
        }
    }

    /// The table in force, with the counters.
    pub(super) fn observe(&self) -> Observed {
        let live = self.live.load();
        let slots = live.targets.iter().map(|(slot, target)| {
            let observed = ObservedSlot {
                backend: live.table.slots[slot].clone(),
                counters: target.counters(),
            };
            (*slot, observed)
        });
        Observed {
            generation: live.table.generation,
            slots: slots.collect(),
            extra: Extra::default(),
        }
    }

    /// Closes connections to slots that have not been used for long.
    pub(super) fn expire(&self) {
        for target in self.live.load().targets.values() {
            target.pool.expire();
        }
    }
}

impl Live {
    /// A slot that stays at its address keeps its connections and counters.
    fn new(table: RouteTable, before: Option<&Live>, limits: Limits) -> Self {
        let targets = table.slots.iter().map(|(slot, backend)| {
            let known = before
                .and_then(|live| live.targets.get(slot))
                .filter(|target| target.address == backend.address);
            let target = known
                .cloned()
                .unwrap_or_else(|| Arc::new(Target::new(backend.address.clone(), limits)));
            (*slot, target)
        });
        Self {
            targets: targets.collect(),
            table,
        }
    }

    /// The slot whose turn it is. Turns are spread by a Weyl sequence, so that any run of requests is split closely to
    /// the weights.
    fn choose(&self, turn: u64) -> Option<Arc<Target>> {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
        let slots = &self.table.slots;
        let total: u64 = slots
            .values()
            .map(|backend| u64::from(backend.weight))
            .sum();
        let mut point = ((turn.wrapping_mul(GOLDEN) >> 32) * total) >> 32;
        for (slot, backend) in slots {
            match point.checked_sub(backend.weight.into()) {
                None => return Some(self.targets[slot].clone()),
                Some(rest) => point = rest,
            }
        }
        None
    }
}

impl Target {
    fn new(address: Address, limits: Limits) -> Self {
        Self {
            pool: Arc::new(Pool::new(address.clone(), limits)),
            address,
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            errors_5xx: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    fn counters(&self) -> Counters {
        Counters {
            in_flight: self.in_flight.load(Ordering::SeqCst),
            requests: self.requests.load(Ordering::Relaxed),
            errors_5xx: self.errors_5xx.load(Ordering::Relaxed),
            connect_failures: self.connect_failures.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

/// A request's place in flight at a slot, given back when dropped.
pub(super) struct Claim {
    pub(super) target: Arc<Target>,
}

impl Claim {
    fn new(target: Arc<Target>) -> Self {
        target.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { target }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.target.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::slot::Role;
    use crate::traffic::table::Backend;

    fn table(generation: u64, blue: u16, green: u16) -> RouteTable {
        let mut table = RouteTable::new("web".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
        table.generation = generation;
        for (slot, weight) in [(Slot::Blue, blue), (Slot::Green, green)] {
            let backend = Backend {
                address: Address::Unix(format!("/{slot}").into()),
                weight,
                role: Role::Stable,
                extra: Extra::default(),
            };
            table.slots.insert(slot, backend);
        }
        table
    }

    fn counters(service: &Service, slot: Slot) -> Counters {
        service.observe().slots[&slot].counters
    }

    #[test]
    fn requests_are_split_as_the_weights_say() {
        let service = Service::new(table(1, 90, 10), Limits::default());
        for _ in 0..1000 {
            drop(service.claim().unwrap());
        }
        let green = counters(&service, Slot::Green).requests;
        assert!((95..=105).contains(&green), "{green}");
        assert_eq!(counters(&service, Slot::Blue).requests, 1000 - green);
    }

    #[test]
    fn without_weight_there_is_no_claim() {
        assert!(
            Service::new(table(1, 0, 0), Limits::default())
                .claim()
                .is_none()
        );
    }

    #[test]
    fn a_replaced_table_keeps_counters_and_counts_what_is_still_in_flight() {
        let service = Service::new(table(1, 100, 0), Limits::default());
        let claim = service.claim().unwrap();
        service.replace(table(2, 0, 100));
        assert_eq!(counters(&service, Slot::Blue).in_flight, 1);
        drop(claim);
        assert_eq!(counters(&service, Slot::Blue).in_flight, 0);
        assert_eq!(counters(&service, Slot::Blue).requests, 1);
    }

    #[test]
    fn once_replaced_and_drained_a_slot_gets_no_further_request() {
        let service = Service::new(table(0, 100, 0), Limits::default());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        drop(service.claim().unwrap());
                    }
                });
            }
            for generation in 1..500 {
                let (blue, green) = if generation % 2 == 0 {
                    (100, 0)
                } else {
                    (0, 100)
                };
                service.replace(table(generation, blue, green));
                let old = if blue == 0 { Slot::Blue } else { Slot::Green };
                while counters(&service, old).in_flight > 0 {
                    std::thread::yield_now();
                }
                let before = counters(&service, old).requests;
                std::thread::yield_now();
                assert_eq!(counters(&service, old).requests, before);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
