//! The status as programs read it. The format is documented in docs/reference/status.md; fields are only ever added.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use state::Refusal;
use state::digest::{ObjectId, ReleaseId, Sha256Hash};
use state::durable::{Extra, Format};
use state::name::{EnvironmentName, HostName, ServiceName};

use crate::deployment::phase::Phase;
use crate::remotes::exception::Glass;
use crate::slot::Slot;

/// A host at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The format.
    #[serde(default)]
    pub format: Format,
    /// The host's name.
    pub host: HostName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// The fleet, as `sha256:…`.
    pub domain: String,
    /// When this was written.
    pub time: Timestamp,
    /// The agent that wrote it.
    pub agent: AgentView,
    /// The last look at the state repository; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<PassView>,
    /// The remotes, in the order of agent.yaml.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<RemoteView>,
    /// That agent.yaml says something else than the agent goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsView>,
    /// Why clients may get no answer: the proxy does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Problem>,
    /// Why history is not written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Problem>,
    /// The stale admission that an operator let start on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<Glass>,
    /// Folders with statements that contradict each other, both sides; they stay until a person removes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<PathBuf>,
    /// What this host does worse than it could.
    pub degraded: Vec<String>,
    /// The services, by name.
    pub services: Vec<ServiceView>,
    /// What a newer version tells.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it was started.
    pub started: Timestamp,
}

/// Settings on disk that are not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsView {
    /// The file.
    pub path: PathBuf,
    /// When it was changed, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// Why an agent that is started now would refuse it, if it would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Problem>,
}

impl SettingsView {
    /// What an operator has to know and to do; quotes the file.
    pub fn sentence(&self) -> String {
        let path = self.path.display();
        match &self.refused {
            Some(Problem { code, detail, .. }) => format!(
                "'{path}' was changed and would be refused; mend it before the agent is restarted: {code}: {detail}"
            ),
            None => format!(
                "'{path}' was changed and is not in force; restart the agent (`systemctl restart writ-agent`), which restarts no service"
            ),
        }
    }
}

/// A look at the state repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassView {
    /// When it ended.
    pub time: Timestamp,
    /// The sequence of the newest admission that was accepted.
    pub sequence: u64,
    /// The hash of its manifest, for `policy audit` to compare. None before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Sha256Hash>,
    /// Until when that counts as the newest; in the past when it is stale. None before the first that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_until: Option<Timestamp>,
    /// Why the last look was refused; what runs is kept up all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Problem>,
}

/// One remote of the state repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteView {
    /// Its URL.
    pub url: String,
    /// Whether it served what is believed.
    pub serves: bool,
    /// When it passed last; none if it has not since the agent was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Timestamp>,
    /// The sequence of the newest admission that it served and that passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Since when it is being looked at, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetching_since: Option<Timestamp>,
    /// Why the last look at it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Problem>,
}

/// Something that a person should know, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The stable code.
    pub code: String,
    /// What was got and expected; may quote untrusted text.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        Self {
            code: refusal.code.to_string(),
            detail: refusal.detail.clone(),
            remedy: refusal.remedy().to_owned(),
        }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// `live`, `stopped`, `absent`, `failed`, `waiting`, or the phase of the deployment under way.
    pub phase: String,
    /// How what runs is doing.
    pub health: Health,
    /// What has the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ReleaseView>,
    /// The admitted release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<ReleaseId>,
    /// The deployment under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentView>,
    /// Why the admitted release is not deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldView>,
    /// Why what should run could not be started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Problem>,
    /// What this host does worse than the release asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// What a newer version tells.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How a service is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Its process runs, and its live probe, if it has one, succeeds.
    Healthy,
    /// Its process is down or its live probe fails.
    Unhealthy,
    /// Nothing runs.
    Stopped,
    /// It was not looked at yet, or a newer version says something else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A release that has the requests of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseView {
    /// Its id.
    pub release: ReleaseId,
    /// The source commit that it was built from.
    pub source: ObjectId,
    /// The slot that it is in.
    pub slot: Slot,
    /// Since when.
    pub since: Timestamp,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentView {
    /// Counts the deployments of the service on this host.
    pub number: u32,
    /// The release.
    pub release: ReleaseId,
    /// Its source commit.
    pub source: ObjectId,
    /// The phase.
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    /// When the bake is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<Timestamp>,
    /// What the phase waits for before it goes on, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Why a release is not deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldView {
    /// `failed`: it failed here. `manual`: somebody decided so on this host. `fleet`: its author or policy holds it.
    /// `refused`: it was not accepted.
    /// `newer`: a newer agent wrote what this one must leave alone.
    /// `postponed`: it is tried again at `until`. `limited`: a limit of this host is met, and it goes on at `until`.
    pub kind: HeldKind,
    /// Since when; none if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why.
    #[serde(flatten)]
    pub problem: Problem,
}

/// Who holds a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeldKind {
    /// Its own failure.
    Failed,
    /// An operator of this host.
    Manual,
    /// Its author, or policy.
    Fleet,
    /// Verification.
    Refused,
    /// The state of this host.
    Postponed,
    /// The limits of this host.
    Limited,
    /// A newer version, which wrote what this one does not understand.
    #[serde(other)]
    Newer,
}

impl ServiceView {
    /// Says whether the service is as it should be, or on the way there with something well in front of its clients.
    pub fn is_well(&self) -> bool {
        let settled = match self.phase.as_str() {
            "stopped" | "absent" => self.health == Health::Stopped,
            _ => self.health == Health::Healthy,
        };
        settled && self.held.is_none()
    }
}

impl Status {
    /// Says whether all is well at `now`.
    pub fn is_well(&self, now: Timestamp) -> bool {
        let fresh = self.pass.as_ref().is_some_and(|pass| {
            pass.refused.is_none() && pass.fresh_until.is_some_and(|until| now < until)
        });
        let starts_again = self
            .settings
            .as_ref()
            .is_none_or(|settings| settings.refused.is_none());
        let host = fresh && starts_again && self.proxy.is_none() && self.journal.is_none();
        host && self.services.iter().all(ServiceView::is_well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::refusal::Code;

    fn view(phase: &str, health: Health) -> ServiceView {
        ServiceView {
            restart: None,
            name: "web".parse().unwrap(),
            phase: phase.to_owned(),
            health,
            running: None,
            desired: None,
            deployment: None,
            held: None,
            degraded: Vec::new(),
            extra: Extra::default(),
        }
    }

    #[test]
    fn a_service_is_well_only_if_it_is_healthy_and_not_held() {
        assert!(view("live", Health::Healthy).is_well());
        assert!(view("stopped", Health::Stopped).is_well());
        assert!(!view("live", Health::Unhealthy).is_well());
        assert!(!view("building", Health::Stopped).is_well());
        assert!(view("building", Health::Healthy).is_well());
        let mut held = view("live", Health::Healthy);
        held.held = Some(HeldView {
            kind: HeldKind::Failed,
            since: None,
            until: None,
            problem: Problem::from(&Refusal::new(Code::NotReady, "x")),
        });
        assert!(!held.is_well());
    }
}
