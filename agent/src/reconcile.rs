//! The pass: fetch → verify → plan, and from there each service goes its own way: build → test → start → check →
//! shift → bake → commit → retire. Upkeep of what runs goes on in the services' tasks, whatever an intake says.

mod services;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use state::name::ServiceName;
use state::service::DesiredState;
use state::{Code, Refusal};
use tokio::sync::mpsc::error::TrySendError;

pub use self::services::Services;
use crate::deployment::record::Guard;
use crate::host::Host;
use crate::journal::Kind;
use crate::remotes::contradiction;
use crate::remotes::exception::{Decision, Glass};
use crate::remotes::floor::Durability;
use crate::remotes::keeper::Keeper;
use crate::remotes::snapshot::Believed;
use crate::remotes::wanted::{Wanted, Word};
use crate::remotes::{Intake, Outcome, Patience};
use crate::service::adopt::adopt;
use crate::service::{Message, Order, ServiceTask, standstill};
use crate::status::{PassView, RemoteView};

/// Brings what is admitted and what runs on this host together.
#[derive(Debug)]
pub struct Reconciler {
    host: Arc<Host>,
    services: Arc<Services>,
    intake: Intake,
    /// Whether what passed before this process was started has been looked at.
    recalled: bool,
    serial: u64,
    /// What the services were told last.
    ordered: Option<Arc<Believed>>,
    /// The stale admission that an operator let start.
    glass: Option<Glass>,
    /// Whether the services were told that nothing new may start.
    stale: bool,
    /// Whether the services were told that the remotes had their say.
    word: Word,
    /// Whether some service has not got its last order.
    behind: bool,
    refused: Option<Code>,
    /// What was said last of each remote, if there are several.
    told: BTreeMap<String, String>,
}

impl Reconciler {
    /// Takes up every service that this host has a record of; fetches nothing yet.
    pub fn start(host: Host) -> Result<Self, Refusal> {
        let host = Arc::new(host);
        let keeper = Arc::clone(&host) as Arc<dyn Keeper>;
        let intake = Intake::new(&host.layout, &host.config, keeper, Durability::Raise)?;
        let reconciler = Self {
            services: Arc::default(),
            intake,
            recalled: false,
            serial: 0,
            ordered: None,
            glass: Glass::load(&host.layout.glass()),
            stale: false,
            word: Word::Awaited,
            behind: false,
            refused: None,
            told: BTreeMap::new(),
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
    pub async fn pass(&mut self, patience: Patience) -> Result<(), Refusal> {
        let present = self.services.names();
        if !self.recalled {
            self.recalled = true;
            self.intake.recall(&present).await;
            // What is known already counts at once: a hold is not to wait for a remote.
            if let Some(believed) = self.intake.outcome().believed {
                self.instruct(Some(&believed), Timestamp::now())?;
            }
        }
        self.intake.look(&present, patience).await;
        self.judge()
    }

    /// Waits until a remote answers that the last pass did not wait for. Nothing is lost if the wait is given up.
    pub async fn late(&mut self) {
        self.intake.late().await;
    }

    /// Says whether a remote has not answered yet.
    pub fn is_looking(&self) -> bool {
        self.intake.is_looking()
    }

    /// Says whether any remote passed when it was last looked at.
    pub fn heard(&self) -> bool {
        self.intake.outcome().heard
    }

    /// When what was ordered stops counting as the newest.
    pub fn stale_at(&self) -> Option<Timestamp> {
        let now = Timestamp::now();
        let ordered = self.ordered.as_ref();
        let ordered = ordered.filter(|ordered| !self.stale && !ordered.is_stale(now))?;
        Some(ordered.fresh_until.min(ordered.trusted_until))
    }

    /// Orders what follows from all that the remotes have shown up to now.
    ///
    /// # Errors
    /// As [`Reconciler::pass`].
    pub fn judge(&mut self) -> Result<(), Refusal> {
        let now = Timestamp::now();
        let Outcome {
            believed,
            refused,
            passed_over,
            ..
        } = self.intake.outcome();
        let refused = refused.or(passed_over);
        if let Some(believed) = &believed {
            self.mend(believed, now)?;
        }
        self.instruct(believed.as_ref(), now)?;
        let refused = match &believed {
            _ if refused.is_some() => refused,
            Some(believed) if believed.is_stale(now) => Some(believed.stale()),
            Some(believed) => believed.refused.clone(),
            None => None,
        };
        self.report(now, believed.as_deref(), refused.as_ref());
        refused.map_or(Ok(()), Err)
    }

    /// Orders what follows from `believed`, if anything has changed since the last order.
    fn instruct(
        &mut self,
        believed: Option<&Arc<Believed>>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let news = match (believed, &self.ordered) {
            (Some(new), Some(old)) => !Arc::ptr_eq(new, old),
            (new, old) => new.is_some() != old.is_some(),
        };
        let behind = std::mem::take(&mut self.behind) || self.has_lost_a_task();
        let glass = self.glass.as_ref();
        let allowed = believed.filter(|believed| {
            !believed.is_stale(now) || glass.is_some_and(|glass| glass.covers(believed, now))
        });
        let (nothing_new, word) = (allowed.is_none(), self.intake.word());
        let told = nothing_new == self.stale && word == self.word && self.serial > 0;
        if news || behind || !told {
            (self.stale, self.word) = (nothing_new, word);
            self.order(allowed.map(|believed| &**believed))?;
            self.ordered = believed.cloned();
        }
        Ok(())
    }

    /// Takes an operator's decision about the host, and says what follows from it.
    ///
    /// # Errors
    /// `NOTHING_VERIFIED`, `NOT_STALE`, `TRUST_EXPIRED`, `STATE_UNSAFE`.
    pub fn decide(&mut self, decision: &Decision) -> Result<String, Refusal> {
        let path = self.host.layout.glass();
        let said = match decision {
            Decision::ApplyStale { reason, user } => {
                let believed = self.intake.outcome().believed;
                let glass = Glass::broken(believed.as_deref(), reason, user, Timestamp::now())?;
                glass.save(&path)?;
                let Glass {
                    sequence, reason, ..
                } = &glass;
                let text = format!("{user} lets sequence {sequence} start though stale: {reason}");
                self.host.note(Kind::Hold, &text);
                let said = format!(
                    "sequence {sequence} may start on this host though it is stale, until something fresh is accepted or `agent apply --lift`"
                );
                self.glass = Some(glass);
                said
            }
            Decision::Lift { user } => {
                let Some(glass) = self.glass.take() else {
                    return Ok("nothing stale was allowed to start".to_owned());
                };
                Glass::remove(&path)?;
                let sequence = glass.sequence;
                let text = format!("{user} lets sequence {sequence} start no more while stale");
                self.host.note(Kind::Hold, &text);
                "nothing stale may start any more; what runs stays".to_owned()
            }
        };
        // What is refused now is in the status.
        let _ = self.judge();
        Ok(said)
    }

    /// Ends an operator's exception that is needed no more: something fresh, or another admission, was accepted.
    fn mend(&mut self, believed: &Believed, now: Timestamp) -> Result<(), Refusal> {
        let Some(glass) = &self.glass else {
            return Ok(());
        };
        let why = if !believed.is_stale(now) {
            "something fresh was accepted"
        } else if glass.sequence != believed.sequence {
            "it was for another admission than the newest"
        } else {
            return Ok(());
        };
        let sequence = glass.sequence;
        Glass::remove(&self.host.layout.glass())?;
        let text = format!("the exception for stale sequence {sequence} has ended: {why}");
        self.host.note(Kind::Hold, &text);
        self.glass = None;
        Ok(())
    }

    /// Tells every service what is wanted of it.
    fn order(&mut self, believed: Option<&Believed>) -> Result<(), Refusal> {
        self.serial += 1;
        let wanted = believed.map(|believed| &believed.wanted);
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
                word: self.word,
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
        let opened = standstill::check(&self.host, service)
            .and_then(|()| Guard::open(path, service.clone()));
        let (mut guard, damage) = match opened {
            Err(refusal) if standstill::is_cause(&refusal) => {
                let handle = standstill::spawn(&self.host, service.clone(), refusal);
                self.services.insert(service.clone(), handle);
                return Ok(());
            }
            opened => opened?,
        };
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

    fn report(&mut self, now: Timestamp, believed: Option<&Believed>, refused: Option<&Refusal>) {
        let code = refused.map(|refusal| refusal.code);
        if code != self.refused {
            let text = match refused {
                Some(refusal) => format!("intake refused: {refusal}"),
                None => "intake accepted again".to_owned(),
            };
            self.host.note(Kind::Intake, &text);
            self.refused = code;
        }
        let remotes = self.intake.remotes();
        if remotes.len() > 1 {
            self.tell_of(&remotes);
        }
        let evidence = contradiction::kept(&self.host.layout.evidence());
        let glass = self.glass.clone();
        self.host.board.show_remotes(remotes, evidence, glass);
        let floor = self.intake.floor();
        let pass = PassView {
            time: now,
            sequence: floor.sequence,
            manifest: (floor.sequence > 0).then_some(floor.manifest),
            fresh_until: believed.map(|believed| believed.fresh_until),
            refused: refused.map(Into::into),
        };
        let unknown_rights = believed.map_or(&[][..], |believed| &believed.unknown_rights);
        self.host.board.show_pass(pass, unknown_rights);
    }

    /// Tells the journal which remotes are refused for another reason than before. One that is behind the others for a
    /// moment is no news.
    fn tell_of(&mut self, remotes: &[RemoteView]) {
        for remote in remotes {
            let refused = remote.refused.as_ref();
            let code = refused.map_or("", |problem| problem.code.as_str());
            let before = self.told.get(&remote.url).map_or("", String::as_str);
            if code == before || code == Code::LogRollback.as_str() {
                continue;
            }
            let text = match refused {
                Some(problem) => format!(
                    "remote '{}' refused: {code}: {}",
                    remote.url, problem.detail
                ),
                None => format!("remote '{}' accepted again", remote.url),
            };
            self.host.note(Kind::Intake, &text);
            self.told.insert(remote.url.clone(), code.to_owned());
        }
    }

    /// Waits until every service has done what it can do by itself.
    pub async fn settle(&mut self) {
        if self.serial == 0 {
            // Nothing was ordered: what was begun earlier still comes to its end.
            if let Err(refusal) = self.order(None) {
                tracing::warn!(%refusal, "cannot order");
            }
        }
        for mut settled in self.services.settled() {
            // An error means that the task has ended: its service has left the host.
            let _ = settled.wait_for(|serial| *serial >= self.serial).await;
        }
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
