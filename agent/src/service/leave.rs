//! A service that is to stand still, or to leave this host.

use std::sync::Arc;

use state::Refusal;

use super::ServiceTask;
use crate::blocking::blocking;
use crate::deployment::retire;
use crate::deployment::routes;
use crate::journal::Kind;
use crate::releases;
use crate::status::Health;

impl ServiceTask {
    /// Stops all slots of a service that is to stand still.
    pub(super) async fn stop_all(&mut self) -> Result<(), Refusal> {
        let record = self.guard.get().clone();
        self.guard.update(|record| {
            record.generation += 1;
            Ok(())
        })?;
        let traffic = record
            .stable()
            .and_then(|(_, occupant)| self.release(&occupant.kept).ok())
            .and_then(|release| release.spec.traffic.clone());
        if let Some(traffic) = &traffic {
            let mut table = routes::table(self.guard.get(), traffic);
            table
                .slots
                .values_mut()
                .for_each(|backend| backend.weight = 0);
            self.host.apply(&table).await?;
        }
        let host = Arc::clone(&self.host);
        let stopped = async move {
            for (slot, occupant) in &record.slots {
                let drain = traffic.as_ref().map(|traffic| traffic.drain.duration());
                retire::drain_and_stop(&host, &record.service, *slot, occupant, drain).await?;
            }
            Ok(())
        };
        self.attend(stopped).await??;
        self.guard.update(|record| {
            record.slots.clear();
            record.generation += 1;
            Ok(())
        })?;
        self.health = Health::Stopped;
        self.note(
            Kind::Slot,
            "stopped, as the admitted release says",
            Vec::new(),
        );
        Ok(())
    }

    /// Removes the service from this host; its data stays.
    pub(super) async fn remove(&mut self) -> Result<(), Refusal> {
        self.stop_all().await?;
        let service = self.guard.get().service.clone();
        self.host.unserve(&service).await?;
        let layout = self.layout.clone();
        blocking(move || releases::remove_all(&layout)).await?;
        self.note(
            Kind::Slot,
            "removed from this host; its data folder stays",
            Vec::new(),
        );
        self.host.board.forget(&service);
        self.settled.send_replace(self.serial);
        Ok(())
    }
}
