//! The rules of an environment (`environments/<env>/environment.yaml`) and the identity of the fleet (`repository.yaml`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Domain;
use crate::name::{EnvironmentName, HostName, Label};
use crate::unit::Period;

/// `repository.yaml`: ties every commit of `main` to one fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// The format of the state repository; 1.
    pub format: u32,
    /// What people call the fleet.
    pub name: Label,
    /// The SHA-256 of the first trust file.
    pub domain: Domain,
}

/// Who belongs to an environment and how fast it may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Environment {
    /// The environment that a release passes before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EnvironmentName>,
    /// The hosts of the environment.
    pub hosts: Hosts,
    /// How often a service may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The time a service rests after a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Period>,
    /// What becomes of a change that comes too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_cooldown: Option<OnCooldown>,
    /// How many services may leave in one admission. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_removals: Option<u32>,
    /// What services of this environment inherit, below their base.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub defaults: serde_json::Map<String, serde_json::Value>,
}

/// The hosts of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Hosts {
    /// `any`: every host that was enrolled with the environment's name, with the labels it gives itself.
    Any(Any),
    /// These hosts and no others.
    Listed(Vec<Host>),
}

/// The word `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Any {
    /// The word `any`.
    Any,
}

/// One host of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Its name, as in its agent.yaml.
    pub name: HostName,
    /// The OpenSSH public key with which it signs its reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What `place` selects by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Label, Label>,
}

/// How often something may change; both bounds hold where both are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Changes of one service a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Changes of one service an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// The same bounds for all services that share a source repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRate>,
}

/// How often the services of one source repository may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceRate {
    /// Changes a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Changes an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
}

/// What becomes of a change that comes during the cooldown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnCooldown {
    /// It waits.
    #[default]
    Queue,
    /// Its push is refused.
    Refuse,
}
