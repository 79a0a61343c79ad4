//! What an intake wants of a service, taken note of.

use std::sync::Arc;

use state::Refusal;
use state::durable::Extra;
use state::release::Release;
use state::service::DesiredState;
use state::verify::Verified;

use super::{Message, Order, ServiceTask, Wanted, Word};
use crate::deployment::record::{Failure, VerifiedId};
use crate::disk;
use crate::service::plan::Wish;

impl ServiceTask {
    pub(super) fn receive(&mut self, message: Message) -> Result<(), Refusal> {
        match message {
            Message::Order(order) => self.obey(order),
            // Whoever asked was told that nobody answers: nothing is done behind his back.
            Message::Ask(_, answer) if answer.is_closed() => Ok(()),
            Message::Ask(ask, answer) => {
                let _ = answer.send(self.decide(&ask));
                Ok(())
            }
        }
    }

    /// Waits for `work`, which must not be interrupted, and takes note of all that comes meanwhile: a service that cannot
    /// act yet still listens. Every wait of a service goes through here, or listens by itself.
    pub(super) async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::pin!(work);
        let mut noted = Ok(());
        loop {
            tokio::select! {
                done = &mut work => return noted.map(|()| done),
                Some(message) = self.inbox.recv() => noted = noted.and(self.receive(message)),
            }
        }
    }

    pub(super) fn obey(&mut self, order: Order) -> Result<(), Refusal> {
        self.serial = order.serial;
        self.refused = None;
        let leave = |release| Wish {
            release,
            state: DesiredState::Absent,
        };
        match order.wanted {
            Wanted::Release(release) => self.want(release)?,
            Wanted::Leave => {
                let record = self.guard.get();
                let ids = record
                    .desired
                    .or(record.stable().map(|(_, o)| o.kept.release));
                self.wish = ids.map(leave);
            }
            Wanted::Refused(refusal) => {
                self.wish = None;
                // Held for the whole environment: nothing that has no traffic yet shall get any.
                if refusal.code.is_hold()
                    && let Some(deployment) = self.guard.get().active()
                    && deployment.phase.is_replaceable()
                {
                    let phase = deployment.phase;
                    self.break_off(Failure::new(refusal.clone(), phase))?;
                }
                self.refused = Some(refusal);
            }
            Wanted::Nothing => self.wish = None,
        }
        match order.word {
            Word::Awaited => Ok(()),
            Word::Given => self.go_by_what_is_known(),
        }
    }

    pub(super) fn want(&mut self, release: Arc<Verified<Release>>) -> Result<(), Refusal> {
        let id = release.id();
        self.wish = Some(Wish {
            release: id,
            state: release.spec.state,
        });
        let verified = VerifiedId {
            release: id,
            origin: release.origin.payload,
            extra: Extra::default(),
        };
        let record = self.guard.get();
        if record.desired != Some(id) || !record.verified.iter().any(|known| known.is(&verified)) {
            std::fs::create_dir_all(self.layout.path())
                .map_err(|error| disk::failed(self.layout.path(), &error))?;
            disk::save(&self.layout.desired(), release.to_yaml().as_bytes(), 0o600)?;
            self.guard.update(|record| {
                record.admit(verified);
                Ok(())
            })?;
        }
        self.desired = Some(release);
        Ok(())
    }
}
