//! The pass: fetch → verify → plan, and from there each service goes its own way: build → test → start → check →
//! shift → bake → commit → retire. Upkeep of what runs goes on in the services' tasks, whatever an intake says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use state::digest::{PayloadHash, ReleaseId};
use state::name::ServiceName;
use state::service::DesiredState;
use state::{Code, Refusal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::adopt::adopt;
use crate::deploy::blocking;
use crate::host::Host;
use crate::intake::{Durability, Intake, Outcome};
use crate::journal::Kind;
use crate::record::Guard;
use crate::service_task::{Ask, Handle, Message, Order, ServiceTask, Wanted};
use crate::status::PassView;

/// Brings what is admitted and what runs on this host together.
#[derive(Debug)]
pub struct Reconciler {
    host: Arc<Host>,
    services: Arc<Services>,
    intake: Option<Intake>,
    serial: u64,
    /// Whether the services were told that nothing new may start.
    stale: bool,
    /// Whether some service has not got its last order.
    behind: bool,
    refused: Option<Code>,
}

/// The services of this host, for those who talk to them.
#[derive(Debug, Default)]
pub struct Services {
    handles: Mutex<BTreeMap<ServiceName, Handle>>,
}

impl Reconciler {
    /// Takes up every service that this host has a record of; fetches nothing yet.
    pub fn start(host: Host) -> Result<Self, Refusal> {
        let host = Arc::new(host);
        let worker = || host.worker();
        let intake = Intake::new(host.layout.clone(), &host.config, worker, Durability::Raise)?;
        let reconciler = Self {
            services: Arc::default(),
            intake: Some(intake),
            serial: 0,
            stale: false,
            behind: false,
            refused: None,
            host,
        };
        for service in recorded(&reconciler.host) {
            reconciler.take_up(&service)?;
        }
        Ok(reconciler)
    }

    /// This host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The services, for those who talk to them.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// One pass. Services go on converging after it; see [`Reconciler::settle`].
    ///
    /// # Errors
    /// Why no remote was believed. What runs is kept up all the same, and the status says why.
    pub async fn pass(&mut self) -> Result<(), Refusal> {
        let now = Timestamp::now();
        let outcome = self.look(now).await?;
        let stale = outcome
            .believed
            .as_ref()
            .is_none_or(|believed| believed.is_stale(now));
        let behind = std::mem::take(&mut self.behind) || self.has_lost_a_task();
        if outcome.news || stale != self.stale || behind || self.serial == 0 {
            self.stale = stale;
            self.order(&outcome, stale)?;
        }
        let refused = match &outcome.believed {
            _ if outcome.refused.is_some() => outcome.refused,
            Some(believed) if stale => Some(believed.stale()),
            Some(believed) => believed.refused.clone(),
            None => None,
        };
        self.report(
            now,
            outcome.believed.map(|believed| believed.fresh_until),
            refused.as_ref(),
        );
        refused.map_or(Ok(()), Err)
    }

    /// Fetch → verify, where blocking is allowed.
    async fn look(&mut self, now: Timestamp) -> Result<Outcome, Refusal> {
        let host = Arc::clone(&self.host);
        let present = self.services.names();
        let mut intake = match self.intake.take() {
            Some(intake) => intake,
            // The last look ended in a panic, and its intake with it.
            None => Intake::new(
                host.layout.clone(),
                &host.config,
                || host.worker(),
                Durability::Raise,
            )?,
        };
        let (intake, outcome) = blocking(move || {
            let known = |service: &ServiceName, release: &ReleaseId, origin: &PayloadHash| {
                host.knows(service, release, origin)
            };
            let outcome = intake.look(now, &known, &present);
            Ok((intake, outcome))
        })
        .await?;
        self.intake = Some(intake);
        Ok(outcome)
    }

    /// Tells every service what is wanted of it.
    fn order(&mut self, outcome: &Outcome, stale: bool) -> Result<(), Refusal> {
        self.serial += 1;
        let wanted = outcome
            .believed
            .as_ref()
            .filter(|_| !stale)
            .map(|believed| &believed.wanted);
        for (service, wanted) in wanted.into_iter().flatten() {
            match wanted {
                Wanted::Release(release) => {
                    let (id, origin) = (release.id(), release.origin.payload);
                    self.host.remember(service, id, origin);
                    // What is absent here already needs nobody to remove it.
                    if release.spec.state != DesiredState::Absent {
                        self.take_up(service)?;
                    }
                }
                // Also a service that never ran here says why it does not.
                Wanted::Refused(_) => self.take_up(service)?,
                Wanted::Leave | Wanted::Nothing => {}
            }
        }
        for service in self.services.ended() {
            if self.host.service(&service).record().exists() {
                self.take_up(&service)?;
            }
        }
        for (service, inbox) in self.services.inboxes() {
            let wanted = wanted.and_then(|wanted| wanted.get(&service)).cloned();
            let order = Order {
                serial: self.serial,
                wanted: wanted.unwrap_or(Wanted::Nothing),
            };
            // A task that has ended needs no order: its service has left the host. One that is busy must not hold up
            // the others: it is told at the next pass.
            if let Err(TrySendError::Full(_)) = inbox.try_send(Message::Order(order)) {
                self.behind = true;
            }
        }
        Ok(())
    }

    /// Says whether the task of a service that is still on this host has ended, which only a panic does.
    fn has_lost_a_task(&self) -> bool {
        let ended = self.services.ended();
        let mut records = ended
            .iter()
            .map(|service| self.host.service(service).record());
        records.any(|record| record.exists())
    }

    /// Has a task for `service`, which goes on where the record says.
    fn take_up(&self, service: &ServiceName) -> Result<(), Refusal> {
        if self.services.is_alive(service) {
            return Ok(());
        }
        let path = self.host.service(service).record();
        let (mut guard, damage) = Guard::open(path, service.clone())?;
        if let Some(damage) = damage {
            self.host.note(Kind::Damage, &damage.to_string());
            let adopted = adopt(&self.host, service);
            guard.update(|record| {
                *record = adopted;
                Ok(())
            })?;
        }
        for id in &guard.get().verified {
            self.host.remember(service, id.release, id.origin);
        }
        let handle = ServiceTask::spawn(Arc::clone(&self.host), guard);
        self.services.insert(service.clone(), handle);
        Ok(())
    }

    fn report(
        &mut self,
        now: Timestamp,
        fresh_until: Option<Timestamp>,
        refused: Option<&Refusal>,
    ) {
        let code = refused.map(|refusal| refusal.code);
        if code != self.refused {
            let text = match refused {
                Some(refusal) => format!("intake refused: {refusal}"),
                None => "intake accepted again".to_owned(),
            };
            self.host.note(Kind::Intake, &text);
            self.refused = code;
        }
        self.host.board.show_pass(PassView {
            time: now,
            sequence: self.intake.as_ref().map_or(0, Intake::sequence),
            manifest: self.intake.as_ref().and_then(Intake::manifest),
            fresh_until,
            refused: refused.map(Into::into),
        });
    }

    /// Waits until every service has done what it can do by itself.
    pub async fn settle(&mut self) {
        if self.serial == 0 {
            // Nothing was ordered: what was begun earlier still comes to its end.
            let nothing = Outcome {
                believed: None,
                news: false,
                refused: None,
            };
            if let Err(refusal) = self.order(&nothing, true) {
                tracing::warn!(%refusal, "cannot order");
            }
        }
        for mut settled in self.services.settled() {
            // An error means that the task has ended: its service has left the host.
            let _ = settled.wait_for(|serial| *serial >= self.serial).await;
        }
    }
}

impl Services {
    /// Their names.
    pub fn names(&self) -> Vec<ServiceName> {
        self.lock().keys().cloned().collect()
    }

    /// Has `service` take an operator's decision, and gives its answer.
    ///
    /// # Errors
    /// `UNKNOWN_SERVICE`, and what the service refuses.
    pub async fn ask(&self, service: &ServiceName, ask: Ask) -> Result<String, Refusal> {
        let unknown = || Refusal::new(Code::UnknownService, format!("'{service}'"));
        let inbox = self.lock().get(service).map(|handle| handle.inbox.clone());
        let (answer, answered) = oneshot::channel();
        let message = Message::Ask(ask, answer);
        inbox
            .ok_or_else(unknown)?
            .send(message)
            .await
            .map_err(|_| unknown())?;
        answered.await.map_err(|_| unknown())?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServiceName, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alive(&self, service: &ServiceName) -> bool {
        self.lock()
            .get(service)
            .is_some_and(|handle| !handle.task.is_finished())
    }

    fn ended(&self) -> Vec<ServiceName> {
        let handles = self.lock();
        let ended = handles
            .iter()
            .filter(|(_, handle)| handle.task.is_finished());
        ended.map(|(service, _)| service.clone()).collect()
    }

    fn insert(&self, service: ServiceName, handle: Handle) {
        self.lock().insert(service, handle);
    }

    fn inboxes(&self) -> Vec<(ServiceName, tokio::sync::mpsc::Sender<Message>)> {
        let mut handles = self.lock();
        handles.retain(|_, handle| !handle.task.is_finished());
        handles
            .iter()
            .map(|(name, handle)| (name.clone(), handle.inbox.clone()))
            .collect()
    }

    fn settled(&self) -> Vec<tokio::sync::watch::Receiver<u64>> {
        self.lock()
            .values()
            .map(|handle| handle.settled.clone())
            .collect()
    }
}

/// The services that this host has a record of.
pub fn recorded(host: &Host) -> Vec<ServiceName> {
    let Ok(entries) = std::fs::read_dir(host.layout.services()) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut services: Vec<ServiceName> = names.filter_map(|name| name.parse().ok()).collect();
    services.retain(|service| host.service(service).record().exists());
    services.sort();
    services
}
