//! How an event changes a record: the phase and, with it, the roles of the slots. Pure; nothing is written here.
//!
//! A role changes together with the phase that announces it, in one write of the record, so that after a crash the
//! routing table that [`crate::deployment::routes::table`] derives from the record is always the right one.

use jiff::Timestamp;
use state::digest::ReleaseId;
use state::durable::Extra;
use state::service::Strategy;

use crate::deployment::phase::{Event, Phase};
use crate::deployment::pipeline::{Illegal, next};
use crate::deployment::record::{
    Deployment, FailedHold, Failure, Kept, Occupant, Postponed, Record,
};
use crate::slot::Role;
use crate::traffic::table::Address;

/// How often a deployment is begun again after interruptions before its release is held.
pub const MAX_ATTEMPTS: u32 = 3;

impl Record {
    /// Begins a deployment of `to` into the idle slot.
    pub fn begin(&mut self, to: Kept, boot: &str, now: Timestamp) {
        self.deployments += 1;
        self.deployment = Some(Deployment {
            number: self.deployments,
            from: self.stable().map(|(_, occupant)| occupant.kept.clone()),
            to,
            slot: self.idle_slot(),
            phase: Phase::Pending,
            attempt: 1,
            boot: boot.to_owned(),
            started: now,
            since: now,
            baked_at: None,
            bake_ends: None,
            cause: None,
            extra: Extra::default(),
        });
    }

    /// Begins the deployment under way again from its first phase, because a crash lost what it had made.
    pub fn begin_again(&mut self, boot: &str, now: Timestamp) {
        if let Some(deployment) = &mut self.deployment {
            deployment.phase = Phase::Pending;
            deployment.attempt += 1;
            boot.clone_into(&mut deployment.boot);
            deployment.since = now;
        }
    }

    /// Puts a deployment whose requests were about to move, and have not, back to where it can still be broken off.
    pub fn step_back(&mut self, now: Timestamp) {
        if let Some(deployment) = &mut self.deployment
            && deployment.phase == Phase::Shifting
        {
            deployment.phase = Phase::Ready;
            deployment.since = now;
            self.generation += 1;
        }
    }

    /// Puts the candidate into its slot, before it is started there. With `recreate` the stable slot gives up its role.
    pub fn occupy(&mut self, address: Option<Address>, strategy: Strategy, now: Timestamp) {
        let Some(deployment) = self.active() else {
            return;
        };
        let (slot, kept) = (deployment.slot, deployment.to.clone());
        let attempt = format!("{}.{}", deployment.number, deployment.attempt);
        if matches!(strategy, Strategy::Recreate(_)) {
            self.change_role(Role::Stable, Role::Draining);
        }
        let role = Role::Candidate;
        let occupant = Occupant {
            role,
            kept,
            address,
            attempt,
            since: now,
            extra: Extra::default(),
        };
        self.slots.insert(slot, occupant);
        self.generation += 1;
    }

    /// Moves the deployment on, and the roles with it. Returns the phase whose effect is next.
    pub fn advance(&mut self, event: Event, boot: &str, now: Timestamp) -> Result<Phase, Illegal> {
        let Some(deployment) = &mut self.deployment else {
            return next(Phase::Retired, event);
        };
        let phase = next(deployment.phase, event)?;
        let from = std::mem::replace(&mut deployment.phase, phase);
        deployment.since = now;
        boot.clone_into(&mut deployment.boot);
        let slot = deployment.slot;
        if !phase.is_replaceable() {
            self.generation += 1;
        }
        match phase {
            Phase::Promoted => {
                self.change_role(Role::Stable, Role::Draining);
                self.change_role(Role::Candidate, Role::Stable);
            }
            // Without Shifting there is no Promoted: the slot has the place of the old one from here on.
            Phase::Baking if from == Phase::Ready => {
                self.change_role(Role::Stable, Role::Draining);
                self.change_role(Role::Candidate, Role::Stable);
            }
            Phase::Draining => self.remember_good(),
            Phase::Retired => self
                .slots
                .retain(|_, occupant| occupant.role != Role::Draining),
            Phase::Aborting => {
                if let Some(occupant) = self.slots.get_mut(&slot) {
                    occupant.role = Role::Candidate;
                }
                self.change_role(Role::Draining, Role::Stable);
            }
            Phase::RolledBack | Phase::Failed => {
                self.slots
                    .retain(|_, occupant| occupant.role != Role::Candidate);
            }
            _ => {}
        }
        Ok(phase)
    }

    /// Notes why the deployment is broken off; the first reason stays.
    pub fn blame(&mut self, failure: Failure) {
        if let Some(deployment) = &mut self.deployment {
            deployment.cause.get_or_insert(failure);
        }
    }

    /// Holds `release`, so that it is not tried again by itself.
    pub fn hold_failed(&mut self, release: ReleaseId, failure: Failure, now: Timestamp) {
        self.postponed = None;
        self.failed = Some(FailedHold {
            release,
            since: now,
            failure,
            extra: Extra::default(),
        });
    }

    /// Puts `release` off.
    pub fn postpone(&mut self, release: ReleaseId, failure: Failure, now: Timestamp) {
        let before = self.postponed.as_ref().filter(|p| p.release == release);
        let attempts = before.map_or(0, |postponed| postponed.attempts) + 1;
        self.postponed = Some(Postponed {
            release,
            attempts,
            until: now + Postponed::length(attempts),
            failure,
            extra: before.map_or_else(Extra::default, |postponed| postponed.extra.clone()),
        });
    }

    fn change_role(&mut self, from: Role, to: Role) {
        for occupant in self.slots.values_mut().filter(|o| o.role == from) {
            occupant.role = to;
        }
    }

    /// Makes the stable release the last good one.
    fn remember_good(&mut self) {
        let Some(kept) = self.stable().map(|(_, occupant)| occupant.kept.clone()) else {
            return;
        };
        let release = kept.release;
        if let Some(before) = self.last_good.replace(kept)
            && before.release != release
        {
            self.previous_good = Some(before);
        }
        self.postponed = None;
        self.failed.take_if(|hold| hold.release == release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::routes;
    use crate::slot::Slot;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};
    use state::digest::ObjectId;
    use state::refusal::{Code, Refusal};
    use state::service::Bake;

    fn kept(byte: u8) -> Kept {
        Kept {
            release: ReleaseId([byte; 32]),
            source: ObjectId([byte; 20]),
            number: byte.into(),
            extra: Extra::default(),
        }
    }

    fn failure(phase: Phase) -> Failure {
        let refusal = Refusal::new(Code::NotReady, "probe");
        Failure::new(refusal, phase)
    }

    fn address(port: u16) -> Option<Address> {
        Some(Address::Tcp(([127, 0, 0, 1], port).into()))
    }

    /// A record whose release 1 is live in blue.
    fn live() -> Record {
        let mut record = Record::new("web".parse().unwrap());
        drive(&mut record, 1, &GOOD, Strategy::BlueGreen(Bake::default()));
        record
    }

    const GOOD: [Event; 12] = [
        Event::Fetched,
        Event::Built,
        Event::Tested,
        Event::Stored,
        Event::Started,
        Event::Answered,
        Event::Shifted,
        Event::Flipped,
        Event::Baked,
        Event::Remembered,
        Event::Drained,
        Event::Drained,
    ];

    fn drive(record: &mut Record, byte: u8, events: &[Event], strategy: Strategy) {
        record.begin(kept(byte), "boot", Timestamp::UNIX_EPOCH);
        for event in events {
            step(record, *event, strategy);
        }
    }

    fn step(record: &mut Record, event: Event, strategy: Strategy) {
        if let Ok(Phase::Starting) = record.advance(event, "boot", Timestamp::UNIX_EPOCH) {
            record.occupy(address(20_000), strategy, Timestamp::UNIX_EPOCH);
        }
    }

    /// The slots that get requests.
    fn served(record: &Record) -> Vec<(Slot, ReleaseId)> {
        let traffic = serde_json::from_value(serde_json::json!({"listen": "0.0.0.0:80"})).unwrap();
        let table = routes::table(record, &traffic);
        let weighted = table.slots.into_iter().filter(|(_, b)| b.weight > 0);
        weighted
            .map(|(slot, _)| (slot, record.slots[&slot].kept.release))
            .collect()
    }

    #[test]
    fn a_release_takes_the_other_slot_and_becomes_the_last_good_one() {
        let mut record = live();
        drive(&mut record, 2, &GOOD, Strategy::BlueGreen(Bake::default()));
        assert_eq!(served(&record), [(Slot::Green, kept(2).release)]);
        assert_eq!(record.last_good, Some(kept(2)));
        assert_eq!(record.previous_good, Some(kept(1)));
        assert_eq!(record.slots.len(), 1);
        assert!(record.active().is_none());
    }

    #[test]
    fn a_step_back_leaves_the_requests_where_they_were_and_the_deployment_replaceable() {
        let mut record = live();
        let strategy = Strategy::BlueGreen(Bake::default());
        drive(&mut record, 2, &GOOD[..6], strategy);
        assert_eq!(served(&record), [(Slot::Green, kept(2).release)]);
        let announced = record.generation;
        record.step_back(Timestamp::UNIX_EPOCH);
        assert_eq!(served(&record), [(Slot::Blue, kept(1).release)]);
        assert!(record.generation > announced, "another table, told anew");
        assert!(record.active().unwrap().phase.is_replaceable());
        step(&mut record, Event::Answered, strategy);
        assert_eq!(served(&record), [(Slot::Green, kept(2).release)]);
    }

    #[test]
    fn an_abort_during_bake_gives_the_requests_back_before_the_candidate_stops() {
        let mut record = live();
        drive(
            &mut record,
            2,
            &GOOD[..8],
            Strategy::BlueGreen(Bake::default()),
        );
        assert_eq!(served(&record), [(Slot::Green, kept(2).release)]);
        step(
            &mut record,
            Event::Broken,
            Strategy::BlueGreen(Bake::default()),
        );
        assert_eq!(served(&record), [(Slot::Blue, kept(1).release)]);
        assert_eq!(record.slots[&Slot::Green].role, Role::Candidate);
    }

    #[test]
    fn the_release_that_ran_before_a_rollback_is_still_the_last_good_one() {
        let mut record = live();
        drive(
            &mut record,
            2,
            &GOOD[..8],
            Strategy::BlueGreen(Bake::default()),
        );
        step(
            &mut record,
            Event::Broken,
            Strategy::BlueGreen(Bake::default()),
        );
        record.hold_failed(
            kept(2).release,
            failure(Phase::Baking),
            Timestamp::UNIX_EPOCH,
        );
        step(
            &mut record,
            Event::Restored,
            Strategy::BlueGreen(Bake::default()),
        );
        assert_eq!(record.last_good, Some(kept(1)));
        assert_eq!(record.failed.as_ref().unwrap().release, kept(2).release);
    }

    #[test]
    fn a_release_is_put_off_longer_each_time_but_at_most_half_an_hour() {
        let mut record = live();
        let mut waits = Vec::new();
        for _ in 0..9 {
            record.postpone(
                kept(2).release,
                failure(Phase::Pending),
                Timestamp::UNIX_EPOCH,
            );
            waits.push(record.postponed.as_ref().unwrap().until.as_second());
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
    }

    proptest! {
        /// Once a release is live, exactly one slot gets requests, whatever happens and wherever a crash falls
        /// (a crash leaves the record as it is, and the table follows from the record alone).
        #[test]
        fn a_live_service_is_never_without_a_slot_that_gets_requests(
            runs in prop::collection::vec(prop::collection::vec(prop::sample::select(&Event::ALL[..]), 0..40), 1..5)
        ) {
            let mut record = live();
            for (number, events) in runs.iter().enumerate() {
                if record.active().is_none() {
                    let byte = u8::try_from(number).unwrap() + 2;
                    record.begin(kept(byte), "boot", Timestamp::UNIX_EPOCH);
                }
                let mut generation = record.generation;
                for event in events {
                    let before = served(&record);
                    // Ready goes on to Shifting here: Baking without it is what recreate does.
                    if *event != Event::AnsweredAlone {
                        step(&mut record, *event, Strategy::BlueGreen(Bake::default()));
                    }
                    prop_assert_eq!(served(&record).len(), 1);
                    prop_assert!(served(&record) == before || record.generation > generation);
                    prop_assert!(record.last_good.is_some());
                    generation = record.generation;
                }
            }
        }
    }
}
