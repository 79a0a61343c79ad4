//! A deployment under way: each phase's effect, and what came of it written together with what the next one announces.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use state::digest::ReleaseId;
use state::durable::Extra;
use state::refusal::Class;
use state::release::Release;
use state::verify::Verified;
use state::{Code, Refusal};
use tokio::sync::watch;

use super::{Counts, ServiceTask, Turn};
use crate::config::ProxyMode;
use crate::deployment::launch;
use crate::deployment::phase::{Event, Phase};
use crate::deployment::record::{Failure, Kept, Record};
use crate::deployment::stages;
use crate::deployment::transition::MAX_ATTEMPTS;
use crate::deployment::work::{Carried, Outcome, Work};
use crate::disk;
use crate::journal::Kind;
use crate::releases;
use crate::service::plan::Action;
use crate::traffic::table::Address;
use crate::user::Account;
use crate::wait::Steady;

impl ServiceTask {
    /// Begins the deployment of the admitted release: a build, unless one is kept.
    pub(super) async fn begin_admitted(&mut self, to: ReleaseId) -> Result<(), Refusal> {
        let Some(release) = self.desired.clone().filter(|release| release.id() == to) else {
            let detail = format!("release {} is not at hand", to.short());
            return Err(Refusal::new(Code::StateUnsafe, detail));
        };
        let next = self.guard.get().deployments + 1;
        let source = release.spec.source.commit;
        let number = releases::find(&self.layout, &to).unwrap_or(next);
        let mut kept = Kept {
            release: to,
            source,
            number,
            extra: Extra::default(),
        };
        if number != next && self.host.recall(&release.service, &kept).is_err() {
            kept.number = next;
        }
        let may = self.may_begin(&release, kept.number != next).await;
        if let Err(refusal) = may.and_then(|()| self.settle_account().map(drop)) {
            self.note(Kind::Failure, &refusal.to_string(), Vec::new());
            return self.guard.update(|record| {
                let failure = Failure::new(refusal, Phase::Pending);
                record.postpone(to, failure, Timestamp::now());
                Ok(())
            });
        }
        self.begin(kept, Counts::Yes)
    }

    /// Whether the host has what a deployment of `release` needs; found out before anything is fetched or touched.
    ///
    /// # Errors
    /// `DISK_FULL`, `PROXY_UNAVAILABLE`.
    async fn may_begin(&self, release: &Release, is_kept: bool) -> Result<(), Refusal> {
        let config = &self.host.config;
        if !is_kept {
            // What runs on the host must not suffer from a build.
            disk::room(&self.host.layout.services(), config.limits.disk_floor)?;
        }
        if config.proxy == ProxyMode::External && release.spec.traffic.is_some() {
            self.host.ensure_proxy().await?;
        }
        Ok(())
    }

    /// Writes down the account of the service, which is given one if it has none.
    ///
    /// # Errors
    /// `ACCOUNTS_EXHAUSTED`.
    pub(super) fn settle_account(&mut self) -> Result<Option<Account>, Refusal> {
        let account = self.host.accounts.of(&self.guard.get().service)?;
        if let Some(Account(number)) = account {
            self.guard.update(|record| {
                record.account = Some(number);
                Ok(())
            })?;
        }
        Ok(account)
    }

    pub(super) fn begin(&mut self, to: Kept, counts: Counts) -> Result<(), Refusal> {
        let account = self.settle_account()?;
        self.layout.create(account)?;
        self.due = None;
        let boot = self.host.boot.clone();
        let from = self
            .guard
            .get()
            .stable()
            .map(|(_, occupant)| occupant.kept.release.short());
        let from = from.unwrap_or_else(|| "nothing".to_owned());
        let (release, source) = (to.release.short(), to.source.short());
        let text = format!("begins: {from} → {release}, source {source}");
        self.carried = Carried::Nothing;
        self.guard.update(|record| {
            let now = Timestamp::now();
            record.begin(to, &boot, now);
            if counts == Counts::Yes {
                record.count(now);
            }
            Ok(())
        })?;
        self.note(Kind::Phase, &text, Vec::new());
        Ok(())
    }

    /// The effect of the current phase, interrupted only by a message that makes it pointless.
    pub(super) async fn step(&mut self) -> Result<Turn, Refusal> {
        let (waits, mut waiting) = watch::channel(None);
        let work = match self.work(waits) {
            Ok(work) => work,
            Err(refusal) => {
                let phase = self
                    .guard
                    .get()
                    .active()
                    .map_or(Phase::Pending, |d| d.phase);
                self.break_off(Failure::new(refusal, phase))?;
                return Ok(Turn::Again);
            }
        };
        let effect = stages::effect(work);
        tokio::pin!(effect);
        loop {
            tokio::select! {
                outcome = &mut effect => {
                    self.conclude(outcome)?;
                    return Ok(Turn::Again);
                }
                Ok(()) = waiting.changed() => {
                    self.waits_for.clone_from(&waiting.borrow_and_update());
                    self.show();
                }
                message = self.inbox.recv() => {
                    let Some(message) = message else { return Ok(Turn::End) };
                    self.receive(message)?;
                    if self.plan(Timestamp::now()) != Action::Continue {
                        return Ok(Turn::Again);
                    }
                }
            }
        }
    }

    fn work(&mut self, waits: watch::Sender<Option<String>>) -> Result<Work, Refusal> {
        self.settle_account()?;
        let record = self.guard.get().clone();
        let Some(deployment) = record.active().cloned() else {
            return Err(Refusal::new(
                Code::Interrupted,
                "no deployment is under way",
            ));
        };
        let to = self.release(&deployment.to)?;
        let from = deployment
            .from
            .as_ref()
            .and_then(|from| self.release(from).ok());
        Ok(Work {
            host: Arc::clone(&self.host),
            record,
            deployment,
            to,
            from,
            carried: std::mem::take(&mut self.carried),
            waits,
        })
    }

    /// A verified release: the wanted one, or one that is kept.
    pub(super) fn release(&self, kept: &Kept) -> Result<Arc<Verified<Release>>, Refusal> {
        let desired = self.desired.clone();
        match desired.filter(|release| release.id() == kept.release) {
            Some(release) => Ok(release),
            None => self.host.recall(&self.guard.get().service, kept),
        }
    }

    pub(super) fn conclude(&mut self, outcome: Outcome) -> Result<(), Refusal> {
        match outcome {
            Ok((event, carried)) => {
                self.carried = carried;
                self.advance(event)
            }
            Err(failure) => self.break_off(failure),
        }
    }

    /// Writes what came of a phase, together with what the next one announces.
    pub(super) fn advance(&mut self, event: Event) -> Result<(), Refusal> {
        let host = Arc::clone(&self.host);
        let to = self
            .guard
            .get()
            .active()
            .map(|deployment| deployment.to.clone());
        let release = to.map(|to| self.release(&to)).transpose()?;
        let mut address = None;
        let written = self.guard.update(|record| {
            let now = Timestamp::now();
            let phase = record
                .advance(event, &host.boot, now)
                .map_err(|illegal| Refusal::new(Code::Interrupted, illegal.to_string()))?;
            let (Some(release), Some(deployment)) = (&release, &mut record.deployment) else {
                return Ok(phase);
            };
            match phase {
                Phase::Starting => {
                    address = launch::address(&host, release, deployment.slot)?;
                    record.occupy(address.clone(), release.spec.strategy(), now);
                }
                Phase::Baking => {
                    let length = release.spec.strategy().bake().duration();
                    let bake = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
                    deployment.baked_at = Some(now.saturating_add(bake).unwrap_or(Timestamp::MAX));
                    deployment.bake_ends = Some(Steady::after(length, &host.boot));
                }
                Phase::RolledBack | Phase::Failed => conclude_failure(record, now),
                _ => {}
            }
            Ok(phase)
        });
        match written {
            Ok(phase) => {
                self.tell(phase);
                Ok(())
            }
            Err(refusal) if refusal.code == Code::PortsExhausted => {
                self.break_off(Failure::new(refusal, Phase::Starting))
            }
            Err(refusal) => {
                if let Some(Address::Tcp(address)) = address {
                    host.ports.give_back(address.port());
                }
                Err(refusal)
            }
        }
    }

    /// Breaks the deployment under way off, with the reason.
    pub(super) fn break_off(&mut self, failure: Failure) -> Result<(), Refusal> {
        self.carried = Carried::Nothing;
        let mut evidence: Vec<String> = failure.probe.iter().cloned().collect();
        evidence.extend(failure.log.iter().cloned());
        self.note(Kind::Failure, &failure.refusal.to_string(), evidence);
        let boot = self.host.boot.clone();
        let phase = self.guard.update(|record| {
            let now = Timestamp::now();
            record.blame(failure);
            let phase = record
                .advance(Event::Broken, &boot, now)
                .map_err(|illegal| Refusal::new(Code::Interrupted, illegal.to_string()))?;
            if phase == Phase::Failed {
                conclude_failure(record, now);
            }
            Ok(phase)
        })?;
        self.tell(phase);
        Ok(())
    }
}

/// What becomes of a release whose deployment was broken off: held if it is to blame, put off if this host is.
fn conclude_failure(record: &mut Record, now: Timestamp) {
    let Some(deployment) = &record.deployment else {
        return;
    };
    let release = deployment.to.release;
    let Some(failure) = deployment.cause.clone() else {
        return;
    };
    match failure.refusal.code.class() {
        // It is tried again when it may be.
        Class::Fleet => {}
        Class::Host => {
            record.postpone(release, failure.clone(), now);
            let attempts = record
                .postponed
                .as_ref()
                .map_or(0, |postponed| postponed.attempts);
            if failure.refusal.code == Code::Interrupted && attempts >= MAX_ATTEMPTS {
                record.hold_failed(release, failure, now);
            }
        }
        Class::Release => record.hold_failed(release, failure, now),
    }
}
