//! The rules of an environment (`environments/<env>/environment.yaml`) and the identity of the fleet (`repository.yaml`).

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::commit::TreeTrailer;
use crate::digest::Domain;
use crate::name::{HostName, Label};
use crate::service::is_default;
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
    /// The hosts of the environment.
    pub hosts: Hosts,
    /// How often a service may change. Left out: as often as its authors like.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rate: Rate,
    /// The time a service rests after a change. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cooldown: Period,
    /// What becomes of a change that comes during the cooldown. Default: it waits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_cooldown: OnCooldown,
    /// How many services may leave in one admission. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub max_removals: u32,
    /// How many persons must approve a change. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approvals: u32,
    /// Whether authors must sign the SHA-256 id of their tree too. Default: they may.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tree_trailer: TreeTrailer,
    /// What services of this environment inherit, below their base.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub defaults: serde_json::Map<String, serde_json::Value>,
}

const fn one() -> u32 {
    1
}

const fn is_one(number: &u32) -> bool {
    *number == one()
}

/// The hosts of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// `any`: every host that was enrolled with the environment's name, with the labels it gives itself.
    Any,
    /// These hosts and no others.
    Listed(Vec<Host>),
}

// By hand, because an untagged enum forgets what was wrong with the host that did not parse.
impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyOrList;

        impl<'de> Visitor<'de> for AnyOrList {
            type Value = Hosts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`any` or a list of hosts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hosts, E> {
                match text {
                    "any" => Ok(Hosts::Any),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, hosts: A) -> Result<Hosts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(hosts)).map(Hosts::Listed)
            }
        }

        deserializer.deserialize_any(AnyOrList)
    }
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Listed(hosts) => hosts.serialize(serializer),
        }
    }
}

/// One host of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Its name, as in its agent.yaml.
    pub name: HostName,
    /// What `place` selects by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Label, Label>,
}

/// How often something may change; both bounds hold where both are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rate {
    /// Changes of one service a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<NonZeroU32>,
    /// Changes of one service an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<NonZeroU32>,
    /// The same bounds for all services that share a source repository.
    #[serde(skip_serializing_if = "is_default")]
    pub source: SourceRate,
}

/// How often the services of one source repository may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceRate {
    /// Changes a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<NonZeroU32>,
    /// Changes an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<NonZeroU32>,
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
