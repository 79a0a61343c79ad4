//! The stable slot is started again: once nothing of it is left, and at a port that nobody else holds. Why it cannot be
//! stands in the status until it is.

use std::sync::Arc;

use state::Refusal;

use super::{ServiceTask, Unstarted};
use crate::blocking::blocking;
use crate::deployment::launch;
use crate::deployment::record::Occupant;
use crate::deployment::retire;
use crate::journal::Kind;
use crate::probe::identity;
use crate::runner::Restart;
use crate::slot::Slot;
use crate::status::Problem;
use crate::traffic::table::Address;

impl ServiceTask {
    /// Starts the stable slot again; does nothing without one.
    pub(super) async fn restart(&mut self) {
        self.due = None;
        let Some((slot, occupant)) = self.guard.get().stable() else {
            return;
        };
        let (occupant, attempt) = (occupant.clone(), occupant.attempt.clone());
        let started = self.try_restart(slot, occupant).await;
        if let Err(refusal) = &started {
            self.note(Kind::Failure, &refusal.to_string(), Vec::new());
        }
        self.unstarted = started.err().map(|refusal| Unstarted { attempt, refusal });
    }

    async fn try_restart(&mut self, slot: Slot, mut occupant: Occupant) -> Result<(), Refusal> {
        self.settle_account()?;
        let service = self.guard.get().service.clone();
        let release = self.release(&occupant.kept)?;
        let host = Arc::clone(&self.host);
        self.attend(async { retire::stop(&host, &service, slot, &occupant).await })
            .await??;
        self.settle_port(slot, &mut occupant).await?;
        let start = launch::start(&host, &release, slot, &occupant, Restart::Always);
        self.attend(start).await??;
        Ok(())
    }

    /// Has the slot keep its port, or take another one if somebody holds it.
    async fn settle_port(&mut self, slot: Slot, occupant: &mut Occupant) -> Result<(), Refusal> {
        let Some(Address::Tcp(address)) = &mut occupant.address else {
            return Ok(());
        };
        if self.host.ports.take_again(address.port()) {
            return Ok(());
        }
        let old = *address;
        let listener = blocking(move || Ok(identity::listener(old)));
        let listener = listener.await?;
        let held = listener.unwrap_or_else(|| format!("{old} cannot be bound"));
        let port = match self.host.ports.take() {
            Ok(port) => port,
            Err(refusal) => {
                // The record says that it is the slot's, and another slot is not to have it.
                self.host.ports.note(old.port());
                return Err(refusal.at(held));
            }
        };
        address.set_port(port);
        let moved = Some(Address::Tcp(*address));
        self.guard.update(|record| {
            if let Some(occupant) = record.slots.get_mut(&slot) {
                occupant.address = moved;
                record.generation += 1;
            }
            Ok(())
        })?;
        let text = format!("{slot} is given port {port}: {held}");
        self.note(Kind::Slot, &text, Vec::new());
        Ok(())
    }

    /// Why the stable slot could not be started again, unless it was, or another one took its place.
    pub(super) fn unstarted(&self) -> Option<Problem> {
        let unstarted = self.unstarted.as_ref()?;
        let (_, occupant) = self.guard.get().stable()?;
        (occupant.attempt == unstarted.attempt).then(|| Problem::from(&unstarted.refusal))
    }
}
