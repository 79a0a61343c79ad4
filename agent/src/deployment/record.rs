//! The durable truth about one service on this host: `services/<service>/record.json`.
//!
//! Plain data, changed in memory by [`crate::deployment::transition`], written whole and fsynced by [`Guard`] before the effect
//! that it announces. A damaged record is moved aside and reported; it is never guessed. A newer one is left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use state::digest::{ObjectId, PayloadHash, ReleaseId};
use state::durable::{self, Extra, Format, Unreadable};
use state::name::ServiceName;
use state::{Code, Refusal};

use crate::config::MOST_PER_HOUR;
use crate::deployment::phase::Phase;
use crate::disk;
use crate::slot::{Role, Slot};
use crate::traffic::table::Address;
use crate::wait::{self, Steady};

/// How many verified ids a record remembers; the oldest are forgotten first.
const VERIFIED_KEPT: usize = 64;

/// What a host knows about one of its services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The format of the file.
    #[serde(default)]
    pub format: Format,
    /// The service.
    pub service: ServiceName,
    /// The release that the last intake asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<ReleaseId>,
    /// The deployment that is under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
    /// What occupies the slots; an idle slot is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<Slot, Occupant>,
    /// The last release that was live and passed its bake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Kept>,
    /// The last good release before `last_good`: where `agent rollback` goes without an argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_good: Option<Kept>,
    /// The release that failed and is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedHold>,
    /// What an operator decided on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<ManualHold>,
    /// A release whose deployment waits for this host to get better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postponed: Option<Postponed>,
    /// When the deployments of the last hour began that count for this host's limits, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<Timestamp>,
    /// What was verified for this service and may be started from disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verified: Vec<VerifiedId>,
    /// The account that its processes run as; its builds run as the one after it. Given once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<u32>,
    /// The generation of the routing table; counts up with every change.
    pub generation: u64,
    /// The number of the last deployment.
    pub deployments: u32,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One attempt to bring one release live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Counts the deployments of the service on this host.
    pub number: u32,
    /// What ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Kept>,
    /// What shall run.
    pub to: Kept,
    /// The slot that it starts in.
    pub slot: Slot,
    /// Where the deployment stands.
    pub phase: Phase,
    /// How often its current phase was begun again after the agent or the host went down.
    pub attempt: u32,
    /// The boot in which the phase began.
    pub boot: String,
    /// When the deployment began.
    pub started: Timestamp,
    /// When the phase began.
    pub since: Timestamp,
    /// When the bake is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<Timestamp>,
    /// The same by the clock that nobody sets: what counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake_ends: Option<Steady>,
    /// Why it was aborted or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Failure>,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A release on this host's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Its id.
    pub release: ReleaseId,
    /// The source commit that it was built from.
    pub source: ObjectId,
    /// The number of its build: with the id, the name of its folder.
    pub number: u32,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What occupies a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Occupant {
    /// What the slot is for.
    pub role: Role,
    /// The release in it.
    pub kept: Kept,
    /// Where it listens; a worker listens nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The attempt as which the runner knows its process.
    pub attempt: String,
    /// When it took the slot.
    pub since: Timestamp,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Why a deployment failed, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The code and what was got and expected.
    pub refusal: Refusal,
    /// The phase that failed.
    pub phase: Phase,
    /// The probe's question and answer, where a probe decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The last lines of the log that belongs to the phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A durable decision not to try a release again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedHold {
    /// The release.
    pub release: ReleaseId,
    /// When it failed.
    pub since: Timestamp,
    /// Why.
    pub failure: Failure,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What an operator decided on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum ManualHold {
    /// Nothing is deployed until `agent resume`.
    Frozen {
        /// Since when.
        since: Timestamp,
        /// What a newer version noted here.
        #[serde(flatten)]
        extra: Extra,
    },
    /// `to` runs instead of `from` until another release is admitted or `agent resume`.
    RolledBack {
        /// Since when.
        since: Timestamp,
        /// The release that is held.
        from: ReleaseId,
        /// The release that runs instead.
        to: Kept,
        /// What a newer version noted here.
        #[serde(flatten)]
        extra: Extra,
    },
    /// What only a newer version understands, as it was written.
    #[serde(untagged)]
    Unknown(Extra),
}

/// A release that waits because this host, not the release, was at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Postponed {
    /// The release.
    pub release: ReleaseId,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub until: Timestamp,
    /// Why it waits.
    pub failure: Failure,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A release that was verified with all of its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedId {
    /// The release.
    pub release: ReleaseId,
    /// The payload of the commit that it was rendered from.
    pub origin: PayloadHash,
    /// What a newer version noted here.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Failure {
    /// A failure without evidence.
    pub fn new(refusal: Refusal, phase: Phase) -> Self {
        Self {
            refusal,
            phase,
            probe: None,
            log: Vec::new(),
            extra: Extra::default(),
        }
    }
}

impl VerifiedId {
    /// Says whether both are the same release, verified with the same origin.
    pub fn is(&self, other: &Self) -> bool {
        (self.release, self.origin) == (other.release, other.origin)
    }
}

impl Postponed {
    /// How long a release waits that was tried so often: 30 s after the first time, doubling up to half an hour.
    pub fn length(attempts: u32) -> SignedDuration {
        SignedDuration::from_secs((15_i64 << attempts.min(7)).min(1800))
    }

    /// How long it still waits; `None` when it is to be tried again.
    pub fn left(&self, now: Timestamp) -> Option<SignedDuration> {
        wait::left(self.until, Self::length(self.attempts), now)
    }
}

impl Record {
    /// A record of a service that this host has never run.
    pub fn new(service: ServiceName) -> Self {
        Self {
            format: Format::current(),
            service,
            desired: None,
            deployment: None,
            slots: BTreeMap::new(),
            last_good: None,
            previous_good: None,
            failed: None,
            manual: None,
            postponed: None,
            begun: Vec::new(),
            verified: Vec::new(),
            account: None,
            generation: 0,
            deployments: 0,
            extra: Extra::default(),
        }
    }

    /// Says whether this host never ran the service.
    pub fn is_blank(&self) -> bool {
        self.deployments == 0 && self.slots.is_empty()
    }

    /// The deployment that is under way.
    pub fn active(&self) -> Option<&Deployment> {
        self.deployment
            .as_ref()
            .filter(|deployment| !deployment.phase.is_terminal())
    }

    /// The slot with `role`, and what is in it.
    pub fn with_role(&self, role: Role) -> Option<(Slot, &Occupant)> {
        self.slots
            .iter()
            .find(|(_, occupant)| occupant.role == role)
            .map(|(slot, occupant)| (*slot, occupant))
    }

    /// The slot that has the requests, and what is in it.
    pub fn stable(&self) -> Option<(Slot, &Occupant)> {
        self.with_role(Role::Stable)
    }

    /// The slot that the next candidate takes: the one that is not stable.
    pub fn idle_slot(&self) -> Slot {
        self.stable().map_or(Slot::Blue, |(slot, _)| slot.other())
    }

    /// Takes note of the release that was verified and is wanted now. A rollback ends with another admission.
    pub fn admit(&mut self, id: VerifiedId) {
        self.desired = Some(id.release);
        self.manual.take_if(|manual| match manual {
            ManualHold::RolledBack { from, .. } => *from != id.release,
            ManualHold::Frozen { .. } | ManualHold::Unknown(_) => false,
        });
        let known = self.verified.iter().position(|known| known.is(&id));
        let id = known.map_or(id, |at| self.verified.remove(at));
        self.verified.push(id);
        let excess = self.verified.len().saturating_sub(VERIFIED_KEPT);
        self.verified.drain(..excess);
    }

    /// What in it only a newer version understands, if there is anything by which this one would have to act.
    fn unknown(&self) -> Option<String> {
        let phase = self.active().map(|deployment| deployment.phase);
        if let Some(Phase::Unknown(phase)) = phase {
            return Some(format!("the phase '{}'", phase.as_str()));
        }
        if let Some(ManualHold::Unknown(_)) = self.manual {
            return Some("the kind of what an operator decided".to_owned());
        }
        self.slots.iter().find_map(|(slot, occupant)| {
            let Role::Unknown(role) = occupant.role else {
                return None;
            };
            Some(format!("the role '{}' of slot {slot}", role.as_str()))
        })
    }

    /// Counts a deployment for this host's limits.
    pub fn count(&mut self, now: Timestamp) {
        let hour_ago = now - SignedDuration::from_hours(1);
        self.begun.retain(|time| hour_ago < *time && *time <= now);
        self.begun.push(now);
        let excess = self.begun.len().saturating_sub(MOST_PER_HOUR);
        self.begun.drain(..excess);
    }

    /// The releases that must not be collected.
    pub fn named(&self) -> Vec<&Kept> {
        let slots = self.slots.values().map(|occupant| &occupant.kept);
        let good = self.last_good.iter().chain(&self.previous_good);
        let mut named: Vec<&Kept> = slots.chain(good).collect();
        if let Some(deployment) = self.active() {
            named.push(&deployment.to);
            named.extend(&deployment.from);
        }
        if let Some(ManualHold::RolledBack { to, .. }) = &self.manual {
            named.push(to);
        }
        named
    }
}

/// The right to change one record; it exists only below the agent's lock, once a service.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    record: Record,
}

impl Guard {
    /// Reads the record at `path` without the right to change it; `None` if there is none.
    ///
    /// # Errors
    /// `RECORD_DAMAGED`, `STATE_NEWER`, `STATE_UNSAFE`.
    pub fn read(path: &Path, service: &ServiceName) -> Result<Option<Record>, Refusal> {
        match std::fs::read(path) {
            Ok(bytes) => parse(&bytes, service)
                .map(Some)
                .map_err(|why| why.refuse(path, Code::RecordDamaged)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk::failed(path, &error)),
        }
    }

    /// Reads the record at `path`, or begins one. A damaged record is moved aside: the guard then holds a new one, and the
    /// refusal says where the old one lies. A newer one stays as it is, and there is no guard.
    ///
    /// # Errors
    /// `STATE_NEWER`, `STATE_UNSAFE`.
    pub fn open(path: PathBuf, service: ServiceName) -> Result<(Self, Option<Refusal>), Refusal> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let record = Record::new(service);
                return Ok((Self { path, record }, None));
            }
            Err(error) => return Err(disk::failed(&path, &error)),
        };
        match parse(&bytes, &service) {
            Ok(record) => match record.unknown() {
                Some(what) => {
                    let detail = format!("this version does not know {what}");
                    let refusal = Refusal::new(Code::StateNewer, detail);
                    Err(refusal.at(format_args!("'{}'", path.display())))
                }
                None => Ok((Self { path, record }, None)),
            },
            Err(newer @ Unreadable::Newer(_)) => Err(newer.refuse(&path, Code::StateNewer)),
            Err(Unreadable::Damaged(why)) => {
                let aside =
                    path.with_extension(format!("corrupt-{}", Timestamp::now().as_second()));
                std::fs::rename(&path, &aside).map_err(|error| disk::failed(&path, &error))?;
                let detail = format!(
                    "{} is damaged ({why}); it was moved to {}",
                    path.display(),
                    aside.display()
                );
                let record = Record::new(service);
                let damage = Refusal::new(Code::RecordDamaged, detail);
                Ok((Self { path, record }, Some(damage)))
            }
        }
    }

    /// The record as it is on disk.
    pub fn get(&self) -> &Record {
        &self.record
    }

    /// Changes the record and writes it; when this returns without an error the change is durable, else nothing changed.
    pub fn update<T>(
        &mut self,
        change: impl FnOnce(&mut Record) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut record = self.record.clone();
        let value = change(&mut record)?;
        record.format = Format::current();
        if record != self.record {
            let bytes = serde_json::to_vec_pretty(&record)
                .map_err(|error| Refusal::new(Code::RecordDamaged, error.to_string()))?;
            disk::save(&self.path, &bytes, 0o600)?;
            self.record = record;
        }
        Ok(value)
    }
}

fn parse(bytes: &[u8], service: &ServiceName) -> Result<Record, Unreadable> {
    let record: Record = durable::parse(bytes)?;
    if record.service != *service {
        let why = format!("it is the record of '{}'", record.service);
        return Err(Unreadable::Damaged(why));
    }
    Ok(record)
}
