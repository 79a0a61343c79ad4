//! What agent and proxy say to each other over `proxy.sock`: one line of JSON each way, then the connection ends. Either
//! may be the newer one: both pass over fields that they do not know, and the agent asks first what the proxy can do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use state::durable::{Extra, Format};
use state::name::ServiceName;
use state::refusal::Refusal;

use crate::slot::Slot;
use crate::traffic::table::Backend;

/// The time for one question and its answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The most bytes of a question or an answer.
pub const MAX_LINE: u64 = 64 * 1024;

/// A question or an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "request")]
pub enum Request {
    /// Who are you, and what can you do?
    Ping {},
    /// Read the service's table file again and serve it.
    Apply {
        /// Whose table.
        service: ServiceName,
    },
    /// What do you serve, and how does it go?
    Observe {
        /// Of which service.
        service: ServiceName,
    },
    /// Stop listening for the service.
    Remove {
        /// Which service.
        service: ServiceName,
    },
}

/// The proxy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// To `ping`.
    Pong(Pong),
    /// To `apply` and `observe`: what is served now.
    Serving(Observed),
    /// To `remove`, and to `observe` of a service that is not served.
    Absent,
    /// Nothing was changed.
    Refused(Refusal),
}

/// Which proxy answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Its process.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// What it can do. A proxy that does not say can do what all can.
    #[serde(default)]
    pub can: Can,
    /// What a newer proxy says.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a proxy can do. It outlives the agent that started it, so an agent asks, and keeps to that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Can {
    /// The newest format of a routing table that it reads.
    #[serde(default)]
    pub format: Format,
    /// Whether it lets fields of a table pass that it does not know; else it refuses the table.
    #[serde(default)]
    pub unknown_fields: bool,
}

impl Can {
    /// What a proxy of this version can do.
    pub fn now() -> Self {
        Self {
            format: Format::NEWEST,
            unknown_fields: true,
        }
    }
}

/// What the proxy serves for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The generation of the table in force.
    pub generation: u64,
    /// The slots of that table.
    pub slots: BTreeMap<Slot, ObservedSlot>,
    /// What a newer proxy says.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One slot, with what happened there since it appeared at this address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedSlot {
    /// The table's entry.
    pub backend: Backend,
    /// The counters.
    pub counters: Counters,
}

/// What happened at one slot since it appeared at its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests whose answer is not complete, open tunnels included.
    pub in_flight: u64,
    /// Requests that were given to the slot.
    pub requests: u64,
    /// Answers of status 500 and above that the slot gave.
    pub errors_5xx: u64,
    /// Requests that were answered 502 because no connection could be made.
    pub connect_failures: u64,
    /// Requests that were, or may have been, sent and got no complete answer in time.
    pub lost: u64,
}
