//! One service on this host, on its own: takes orders, decides by [`crate::plan`], deploys phase by phase, and keeps an
//! eye on what runs. A service that fails, builds for an hour or hangs delays no other.
//!
//! Every step is: the record announces it (fsynced), the effect, what came of it, the record again.

mod operator;
mod recover;
mod upkeep;
mod view;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use state::release::Release;
use state::service::DesiredState;
use state::verify::Verified;
use state::{Code, Refusal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::deploy::{self, Carried, Outcome, Work};
use crate::deployment::{Event, Phase};
use crate::host::Host;
use crate::journal::{Entry, Kind};
use crate::layout::ServiceLayout;
use crate::plan::{self, Action, Wish};
use crate::record::{Failure, Guard, Kept, Record, VerifiedId};
use crate::route::Address;
use crate::status::Health;
use crate::transition::MAX_ATTEMPTS;
use crate::{disk, retire, start};

pub use operator::Ask;

/// What a service is told.
#[derive(Debug)]
pub enum Message {
    /// By an intake.
    Order(Order),
    /// By an operator, who waits for the answer.
    Ask(Ask, oneshot::Sender<Result<String, Refusal>>),
}

/// What an intake wants of a service.
#[derive(Clone, Debug)]
pub struct Order {
    /// Counts the intakes.
    pub serial: u64,
    /// What is wanted.
    pub wanted: Wanted,
}

/// What is wanted of a service.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// That it is as this release says.
    Release(Arc<Verified<Release>>),
    /// That it leaves this host: it is placed elsewhere now.
    Leave,
    /// Nothing new: its release was refused.
    Refused(Refusal),
    /// Nothing new: nobody can tell what is newest, or the admitted tree does not mention it.
    Nothing,
}

/// One service on this host.
#[derive(Debug)]
pub struct ServiceTask {
    host: Arc<Host>,
    layout: ServiceLayout,
    guard: Guard,
    inbox: mpsc::Receiver<Message>,
    settled: watch::Sender<u64>,
    serial: u64,
    wish: Option<Wish>,
    /// The release that is wanted, or was when the agent was last running.
    desired: Option<Arc<Verified<Release>>>,
    refused: Option<Refusal>,
    carried: Carried,
    health: Health,
    restarts: u32,
}

/// How the others reach a service's task.
#[derive(Debug)]
pub struct Handle {
    /// Takes messages.
    pub inbox: mpsc::Sender<Message>,
    /// The serial of the last order after which nothing was left to do.
    pub settled: watch::Receiver<u64>,
    /// Ends when the service has left the host.
    pub task: tokio::task::JoinHandle<()>,
}

impl ServiceTask {
    /// Takes the service up where its record says, and goes on with it.
    pub fn spawn(host: Arc<Host>, guard: Guard) -> Handle {
        let (sender, inbox) = mpsc::channel(16);
        let (settled, receiver) = watch::channel(0);
        let layout = host.service(&guard.get().service);
        let task = Self {
            host,
            layout,
            guard,
            inbox,
            settled,
            serial: 0,
            wish: None,
            desired: None,
            refused: None,
            carried: Carried::Nothing,
            health: Health::Unknown,
            restarts: 0,
        };
        Handle {
            inbox: sender,
            settled: receiver,
            task: tokio::spawn(task.run()),
        }
    }

    async fn run(mut self) {
        let mut result = self.recover().await;
        loop {
            if let Err(refusal) = result {
                // The record could not be written: what runs is left alone until it can.
                self.note(Kind::Failure, &refusal.to_string(), Vec::new());
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            }
            match self.turn().await {
                Ok(Turn::Again) => result = Ok(()),
                Ok(Turn::End) => return,
                Err(refusal) => result = Err(refusal),
            }
        }
    }

    /// Decides, and does one thing.
    async fn turn(&mut self) -> Result<Turn, Refusal> {
        let now = Timestamp::now();
        let action = plan::decide(self.wish, self.guard.get(), now);
        self.show();
        match action {
            Action::Deploy { to, .. } => self.begin_admitted(to),
            Action::Return { to, .. } => self.begin(to),
            Action::Abort(reason) => {
                let phase = self
                    .guard
                    .get()
                    .active()
                    .map_or(Phase::Pending, |d| d.phase);
                self.break_off(Failure::new(reason, phase))
            }
            Action::Continue => return self.step().await,
            Action::Stop => self.stop_all().await,
            Action::Remove => return self.remove().await.map(|()| Turn::End),
            Action::Keep | Action::Held(_) => return self.idle(None).await,
            Action::Waiting { until, .. } => return self.idle(Some(until)).await,
        }?;
        Ok(Turn::Again)
    }

    /// Begins the deployment of the admitted release: a build, unless one is kept.
    fn begin_admitted(&mut self, to: state::digest::ReleaseId) -> Result<(), Refusal> {
        let Some(release) = self.desired.clone().filter(|release| release.id() == to) else {
            let detail = format!("release {} is not at hand", to.short());
            return Err(Refusal::new(Code::StateUnsafe, detail));
        };
        let next = self.guard.get().deployments + 1;
        let source = release.spec.source.commit;
        let number = retire::find(&self.layout, &to).unwrap_or(next);
        let mut kept = Kept {
            release: to,
            source,
            number,
        };
        if number != next && self.host.recall(&release.service, &kept).is_err() {
            kept.number = next;
        }
        self.begin(kept)
    }

    fn begin(&mut self, to: Kept) -> Result<(), Refusal> {
        self.layout.create(self.host.user.as_ref())?;
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
            record.begin(to, &boot, Timestamp::now());
            Ok(())
        })?;
        self.note(Kind::Phase, &text, Vec::new());
        Ok(())
    }

    /// The effect of the current phase, interrupted only by a message that makes it pointless.
    async fn step(&mut self) -> Result<Turn, Refusal> {
        let work = match self.work() {
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
        let effect = deploy::effect(work);
        tokio::pin!(effect);
        loop {
            tokio::select! {
                outcome = &mut effect => {
                    self.conclude(outcome)?;
                    return Ok(Turn::Again);
                }
                message = self.inbox.recv() => {
                    let Some(message) = message else { return Ok(Turn::End) };
                    self.receive(message)?;
                    if plan::decide(self.wish, self.guard.get(), Timestamp::now()) != Action::Continue {
                        return Ok(Turn::Again);
                    }
                }
            }
        }
    }

    fn work(&mut self) -> Result<Work, Refusal> {
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
        })
    }

    /// A verified release: the wanted one, or one that is kept.
    fn release(&self, kept: &Kept) -> Result<Arc<Verified<Release>>, Refusal> {
        let desired = self.desired.clone();
        match desired.filter(|release| release.id() == kept.release) {
            Some(release) => Ok(release),
            None => self.host.recall(&self.guard.get().service, kept),
        }
    }

    fn conclude(&mut self, outcome: Outcome) -> Result<(), Refusal> {
        match outcome {
            Ok((event, carried)) => {
                self.carried = carried;
                self.advance(event)
            }
            Err(failure) => self.break_off(failure),
        }
    }

    /// Writes what came of a phase, together with what the next one announces.
    fn advance(&mut self, event: Event) -> Result<(), Refusal> {
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
                    address = start::address(&host, release, deployment.slot)?;
                    record.occupy(address.clone(), release.spec.strategy(), now);
                }
                Phase::Baking => {
                    let bake = release.spec.strategy().bake().duration();
                    let bake = SignedDuration::try_from(bake).unwrap_or(SignedDuration::MAX);
                    deployment.baked_at = Some(now.saturating_add(bake).unwrap_or(Timestamp::MAX));
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
    fn break_off(&mut self, failure: Failure) -> Result<(), Refusal> {
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

    /// Tells journal, log and terminal which phase was reached.
    fn tell(&self, phase: Phase) {
        let record = self.guard.get();
        let to = record.deployment.as_ref().map(|d| d.to.release.short());
        let to = to.unwrap_or_default();
        let text = match phase {
            Phase::Retired => format!("done: release {to} is live"),
            Phase::RolledBack => format!("rolled back: release {to} does not run"),
            Phase::Failed => format!("failed: release {to} does not run"),
            phase => phase.to_string(),
        };
        self.note(Kind::Phase, &text, Vec::new());
        if !phase.is_terminal() {
            return;
        }
        self.host.progress.done(&record.service, &text);
        if let Some(hold) = &record.failed
            && phase != Phase::Retired
        {
            let (release, why) = (hold.release.short(), &hold.failure.refusal);
            self.note(
                Kind::Hold,
                &format!("release {release} is held: {why}"),
                Vec::new(),
            );
        }
    }

    fn note(&self, kind: Kind, text: &str, evidence: Vec<String>) {
        let record = self.guard.get();
        let service = &record.service;
        tracing::info!(%service, "{}", state::text::Escaped(text));
        self.host.journal.append(&Entry {
            time: Timestamp::now(),
            service: Some(service.clone()),
            deployment: record
                .deployment
                .as_ref()
                .map(|deployment| deployment.number),
            kind,
            text: text.to_owned(),
            evidence,
        });
    }

    fn receive(&mut self, message: Message) -> Result<(), Refusal> {
        match message {
            Message::Order(order) => self.obey(order),
            Message::Ask(ask, answer) => {
                // Whoever asked may be gone; what was decided stays decided.
                let _ = answer.send(self.decide(&ask));
                Ok(())
            }
        }
    }

    fn obey(&mut self, order: Order) -> Result<(), Refusal> {
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
                if refusal.code == Code::Held
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
        Ok(())
    }

    fn want(&mut self, release: Arc<Verified<Release>>) -> Result<(), Refusal> {
        let id = release.id();
        self.wish = Some(Wish {
            release: id,
            state: release.spec.state,
        });
        let verified = VerifiedId {
            release: id,
            origin: release.origin.payload,
        };
        let record = self.guard.get();
        if record.desired != Some(id) || !record.verified.contains(&verified) {
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

    /// Stops all slots of a service that is to stand still.
    async fn stop_all(&mut self) -> Result<(), Refusal> {
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
            let mut table = crate::shift::table(self.guard.get(), traffic);
            table
                .slots
                .values_mut()
                .for_each(|backend| backend.weight = 0);
            self.host.apply(&table).await?;
        }
        for (slot, occupant) in &record.slots {
            let drain = traffic.as_ref().map(|traffic| traffic.drain.duration());
            retire::drain_and_stop(&self.host, &record.service, *slot, occupant, drain).await?;
        }
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
    async fn remove(&mut self) -> Result<(), Refusal> {
        self.stop_all().await?;
        let service = self.guard.get().service.clone();
        self.host.unserve(&service).await?;
        let layout = self.layout.clone();
        deploy::blocking(move || retire::remove_all(&layout)).await?;
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

/// Whether a task goes on.
enum Turn {
    Again,
    End,
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
    match failure.refusal.code {
        Code::Superseded | Code::Held => {}
        Code::Interrupted
        | Code::SourceUnavailable
        | Code::FetchFailed
        | Code::FetchTimeout
        | Code::DiskFull
        | Code::PortsExhausted
        | Code::ProxyUnavailable
        | Code::SandboxMissing
        | Code::StateUnsafe => {
            record.postpone(release, failure.clone(), now);
            let attempts = record
                .postponed
                .as_ref()
                .map_or(0, |postponed| postponed.attempts);
            if failure.refusal.code == Code::Interrupted && attempts >= MAX_ATTEMPTS {
                record.hold_failed(release, failure, now);
            }
        }
        _ => record.hold_failed(release, failure, now),
    }
}
