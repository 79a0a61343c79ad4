//! A service as its author writes it, after merging: `services/<name>/service.yaml` under its overlay.
//!
//! Unknown fields are refused. Defaults are part of the format: they are left out of the canonical form, so
//! they never change within format 1. Everything here is plain data; [`crate::render`] makes and checks it.

mod build;
mod health;
mod traffic;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::ObjectId;
use crate::name::{Label, ServiceName};
use crate::unit::{Bytes, Percent, Period};

pub use build::{Build, BuildLimits, Network, Step};
pub use health::{Check, Health, Identity, Probe, Ready, Startup};
pub use traffic::{Bake, Driver, Strategy, Traffic};

/// Says whether `value` is its type's default; such fields are left out of the canonical form.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What to run, how to build it, how to know that it is well and how requests reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Where the source comes from, pinned to one commit.
    pub source: Source,
    /// How the source becomes a release.
    #[serde(default, skip_serializing_if = "is_default")]
    pub build: Build,
    /// What must succeed before the release may start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub test: Test,
    /// What a slot runs.
    pub run: Run,
    /// How a slot shows that it is well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Health,
    /// How requests reach the service; a worker has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// How a new release takes the place of the old one, if not by default; [`Service::strategy`] says which is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Whether the service runs, stands still or is to be removed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub state: DesiredState,
    /// Releases kept on a host for rollback.
    #[serde(
        default = "Service::default_keep",
        skip_serializing_if = "Service::is_default_keep"
    )]
    pub keep: u32,
    /// Which hosts of the environment run it; all of them if left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: Place,
    /// Services of the environment that must be admitted as they are in the same commit before this one is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<ServiceName>,
}

impl Service {
    const fn default_keep() -> u32 {
        5
    }

    const fn is_default_keep(keep: &u32) -> bool {
        *keep == Self::default_keep()
    }

    /// The strategy in force: the one written; else `blueGreen` with traffic and `recreate` without.
    pub fn strategy(&self) -> Strategy {
        self.strategy.unwrap_or_else(|| self.default_strategy())
    }

    fn default_strategy(&self) -> Strategy {
        if self.traffic.is_some() {
            Strategy::BlueGreen(Bake::default())
        } else {
            Strategy::Recreate(Bake::default())
        }
    }
}

// The derived code stands in inherent methods (`remote`), because the default of one field depends on another:
// a strategy that is written as it would be by default is forgotten, so that both spellings are one release.
impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut service = Self::deserialize(deserializer)?;
        service.strategy = service
            .strategy
            .filter(|strategy| *strategy != service.default_strategy());
        Ok(service)
    }
}

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// A branch of a git repository and the commit of it that is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// `https://…`, `ssh://…`, `file:///…` or an absolute path, readable by every host.
    pub repository: String,
    /// The branch that the commit must be reachable from.
    pub branch: String,
    /// The pinned commit; written in the overlay as a quoted string.
    pub commit: ObjectId,
}

/// Commands that must succeed in the built checkout, without network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Test {
    /// Run in order; the first failure fails the release.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The time within which all steps must end.
    #[serde(skip_serializing_if = "build::is_twenty_minutes")]
    pub timeout: Period,
}

impl Default for Test {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            timeout: Build::default().timeout,
        }
    }
}

/// What a slot runs: exactly one of `command` and `static`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Run {
    /// Program and arguments, started in the release's `app/` folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A folder of `app/` that is served as static files.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    pub static_files: Option<String>,
    /// How the process is told where to listen.
    #[serde(skip_serializing_if = "is_default")]
    pub listen: Listen,
    /// Variables of the process, beside those that the agent sets.
    #[serde(
        deserialize_with = "variables::deserialize",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub environment: BTreeMap<String, String>,
    /// Names of secrets handed over in CREDENTIALS_DIRECTORY.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Label>,
    /// Bounds on what the process may use.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// How the processes are asked to end.
    #[serde(skip_serializing_if = "is_default")]
    pub stop: Stop,
}

/// How the processes of a slot are asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Stop {
    /// The signal that asks them. Default: TERM.
    #[serde(skip_serializing_if = "is_default")]
    pub signal: StopSignal,
    /// The time that they have; what is left then is killed. Default: 10 s.
    #[serde(skip_serializing_if = "is_ten_seconds")]
    pub within: Period,
}

const TEN_SECONDS: Period = Period::seconds(10);

fn is_ten_seconds(period: &Period) -> bool {
    *period == TEN_SECONDS
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: StopSignal::Term,
            within: TEN_SECONDS,
        }
    }
}

/// A signal by which programs let themselves be ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// How a process is told where to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Listen {
    /// A loopback TCP port in `PORT`.
    #[default]
    Port,
    /// The path of a unix socket in `SOCKET`.
    Socket,
}

/// Bounds on memory, processor and processes of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of the whole slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor share; 100% is one processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Percent>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// What to do where the host cannot enforce them.
    #[serde(skip_serializing_if = "is_default")]
    pub enforce: Enforce,
}

/// What to do where a host cannot enforce limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Enforce {
    /// Run all the same; `agent status` says that they are not enforced.
    #[default]
    BestEffort,
    /// Fail the deployment.
    Required,
}

/// Whether a service runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DesiredState {
    /// It runs.
    #[default]
    Running,
    /// Its processes are stopped; releases, data and configuration stay.
    Stopped,
    /// It is removed from its hosts; its data folder stays.
    Absent,
}

/// Which hosts run a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Place {
    /// Labels that a host must have, all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Label, Label>,
}

impl Place {
    /// Says whether a host with these labels runs the service.
    pub fn takes(&self, labels: &BTreeMap<Label, Label>) -> bool {
        self.labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}
