//! Takes a service up after the agent, or the host, went down: by the record alone, before anything is fetched.

use jiff::{SignedDuration, Timestamp};
use state::{Code, Refusal};

use super::ServiceTask;
use crate::blocking::blocking;
use crate::build::Built;
use crate::deployment::phase::{Event, Phase};
use crate::deployment::pipeline::{AfterCrash, Stage};
use crate::deployment::record::Failure;
use crate::deployment::transition::MAX_ATTEMPTS;
use crate::journal::Kind;
use crate::releases;
use crate::runner::SlotStatus;
use crate::traffic::table::Address;

impl ServiceTask {
    /// Finds out what still stands, starts what should run and does not, and puts a deployment that was cut short where
    /// it can go on.
    pub(super) async fn recover(&mut self) -> Result<(), Refusal> {
        let record = self.guard.get();
        for occupant in record.slots.values() {
            if let Some(Address::Tcp(address)) = &occupant.address {
                self.host.ports.note(address.port());
            }
        }
        let service = record.service.clone();
        self.desired = self.host.recall_file(&service, &self.layout.desired()).ok();
        self.step_back().await?;
        self.resume_deployment()?;
        self.ensure_stable().await
    }

    /// A deployment that was cut short before the proxy learnt where requests go now can still be broken off.
    async fn step_back(&mut self) -> Result<(), Refusal> {
        let record = self.guard.get();
        if record
            .active()
            .is_none_or(|deployment| deployment.phase != Phase::Shifting)
        {
            return Ok(());
        }
        let observed = self
            .host
            .proxy
            .observe(&record.service)
            .await
            .ok()
            .flatten();
        if observed.is_some_and(|observed| observed.generation >= record.generation) {
            return Ok(());
        }
        self.guard.update(|record| {
            record.step_back(Timestamp::now());
            Ok(())
        })
    }

    fn resume_deployment(&mut self) -> Result<(), Refusal> {
        let Some(deployment) = self.guard.get().active().cloned() else {
            return Ok(());
        };
        let rebooted = deployment.boot != self.host.boot;
        let phase = deployment.phase;
        let text = format!("taken up again while {phase}");
        self.note(Kind::Phase, &text, Vec::new());
        let after = Stage::of(phase).map(|stage| stage.after_crash);
        match phase {
            _ if after == Some(AfterCrash::BeginAgain) => {
                let to = &deployment.to;
                if phase == Phase::Staged
                    && Built::open(&self.layout, &to.release, to.number).is_some()
                {
                    return self.advance(Event::Stored);
                }
                if deployment.attempt >= MAX_ATTEMPTS {
                    let detail = format!("cut short {} times", deployment.attempt);
                    let refusal = Refusal::new(Code::Interrupted, detail);
                    return self.break_off(Failure::new(refusal, phase));
                }
                let boot = self.host.boot.clone();
                self.guard.update(|record| {
                    record.begin_again(&boot, Timestamp::now());
                    Ok(())
                })
            }
            _ if rebooted && phase.needs_processes() => {
                let refusal = Refusal::new(Code::Interrupted, "the host was started anew");
                self.break_off(Failure::new(refusal, phase))
            }
            Phase::Baking => self.guard.update(|record| {
                // What people are shown, by the clock as it is now.
                if let Some(deployment) = &mut record.deployment
                    && let Some(ends) = &deployment.bake_ends
                    && let Some(left) = ends.left(&deployment.boot)
                    && let Ok(left) = SignedDuration::try_from(left)
                {
                    deployment.baked_at = Timestamp::now().checked_add(left).ok();
                }
                Ok(())
            }),
            _ => Ok(()),
        }
    }

    /// Starts the stable slot if neither its process nor somebody who will start it is there.
    async fn ensure_stable(&mut self) -> Result<(), Refusal> {
        let record = self.guard.get();
        let phase = record.active().map(|deployment| deployment.phase);
        // Whether a slot on trial lives is for the bake to find out, and an abort brings its stable slot back itself.
        if matches!(
            phase,
            Some(Phase::Promoted | Phase::Baking | Phase::Aborting)
        ) {
            return Ok(());
        }
        let Some((slot, _)) = record.stable() else {
            return Ok(());
        };
        match self.host.runner.status(&record.service, slot) {
            SlotStatus::Running { .. }
            | SlotStatus::Exited {
                restarting: true, ..
            } => {}
            SlotStatus::Absent | SlotStatus::Exited { .. } => {
                let text = format!("starts {slot} again: nothing ran there");
                self.note(Kind::Slot, &text, Vec::new());
                self.restart().await;
            }
        }
        Ok(())
    }

    /// Has the proxy serve what the record calls for, unless it does.
    pub(super) async fn ensure_routes(&self) -> Result<(), Refusal> {
        let record = self.guard.get();
        let service = &record.service;
        let release = record
            .stable()
            .map(|(_, occupant)| self.release(&occupant.kept))
            .transpose()?;
        let known = self
            .host
            .layout
            .routes()
            .join(format!("{service}.json"))
            .exists();
        let Some(release) = release else {
            // A first release that failed: its address answers 503 until another one is live.
            return Ok(());
        };
        let Some(traffic) = &release.spec.traffic else {
            return if known {
                self.host.unserve(service).await
            } else {
                Ok(())
            };
        };
        let table = crate::deployment::routes::table(record, traffic);
        let observed = self.host.proxy.observe(service).await.ok().flatten();
        let same = observed.is_some_and(|observed| {
            observed.generation == table.generation
                && observed.slots.len() == table.slots.len()
                && observed.slots.iter().all(|(slot, seen)| {
                    let backend = table.slots.get(slot);
                    backend.is_some_and(|backend| backend.is(&seen.backend))
                })
        });
        if same {
            Ok(())
        } else {
            self.host.apply(&table).await
        }
    }

    /// Removes what is beyond `keep` and the host's limits, after a deployment.
    pub(super) async fn collect(&self) {
        let Some(release) = &self.desired else { return };
        let (layout, record, keep) = (
            self.layout.clone(),
            self.guard.get().clone(),
            release.spec.keep,
        );
        let limits = self.host.config.limits;
        let collected = blocking(move || releases::collect(&layout, &record, keep, &limits)).await;
        if let Err(refusal) = collected {
            tracing::warn!(%refusal, "cannot remove old releases");
        }
    }
}
