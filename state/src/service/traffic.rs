//! How requests reach a service, and how one release takes the place of another.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::is_default;
use crate::unit::Period;

/// How requests reach the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Traffic {
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// What forwards the requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub driver: Driver,
    /// The time that requests in flight have before the old slot is stopped.
    #[serde(
        default = "Traffic::default_drain",
        skip_serializing_if = "Traffic::is_default_drain"
    )]
    pub drain: Period,
    /// The networks of load balancers before the hosts: what they say of who asked is passed on.
    #[serde(
        default,
        deserialize_with = "networks",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub trust: BTreeSet<IpNet>,
}

/// Reads networks; one that is not spelt as its own first address is refused, so that a release has one spelling.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<IpNet>, D::Error> {
    let network = |text: String| match text.parse::<IpNet>() {
        Ok(network) if network == network.trunc() && network.to_string() == text => Ok(network),
        Ok(network) => Err(Error::custom(format!(
            "'{text}', expected '{}'",
            network.trunc()
        ))),
        Err(_) => Err(Error::custom(format!(
            "'{text}', expected a network such as '10.0.0.0/8' or, for one address, '10.0.0.1/32'"
        ))),
    };
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.into_iter().map(network).collect()
}

impl Traffic {
    const fn default_drain() -> Period {
        Period::seconds(30)
    }

    fn is_default_drain(drain: &Period) -> bool {
        *drain == Self::default_drain()
    }
}

/// What forwards the requests to the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Driver {
    /// The agent's own proxy process.
    #[default]
    Embedded,
}

/// How a new release takes the place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// The new release starts beside the old one, which stays warm until the bake is over.
    BlueGreen(Bake),
    /// The old release stops before the new one starts: for workers and for what cannot run twice.
    Recreate(Bake),
}

// By hand, because serde_yaml writes a derived enum as a YAML tag.
impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([match self {
            Self::BlueGreen(bake) => ("blueGreen", bake),
            Self::Recreate(bake) => ("recreate", bake),
        }])
    }
}

impl Strategy {
    /// The time that a new release must stay well before it counts as good.
    pub const fn bake(self) -> Period {
        match self {
            Self::BlueGreen(bake) | Self::Recreate(bake) => bake.bake,
        }
    }
}

/// How long a new release is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bake {
    /// The time that a new release must stay well before it counts as good.
    #[serde(skip_serializing_if = "Bake::is_default_bake")]
    pub bake: Period,
}

impl Bake {
    fn is_default_bake(bake: &Period) -> bool {
        *bake == Self::default().bake
    }
}

impl Default for Bake {
    fn default() -> Self {
        Self {
            bake: Period::minutes(10),
        }
    }
}
