//! What the journal holds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use state::durable::{Extra, Format};
use state::name::ServiceName;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The format of the entry.
    #[serde(default)]
    pub format: Format,
    /// When.
    pub time: Timestamp,
    /// To which service; none if it concerns the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// In which deployment of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u32>,
    /// What sort of thing.
    pub kind: Kind,
    /// What happened, in one line.
    pub text: String,
    /// The probe's question and answer, or the last lines of a log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Entry {
    /// An entry about the host, of now.
    pub fn new(kind: Kind, text: &str) -> Self {
        Self {
            format: Format::current(),
            time: Timestamp::now(),
            service: None,
            deployment: None,
            kind,
            text: text.to_owned(),
            evidence: Vec::new(),
            extra: Extra::default(),
        }
    }
}

/// The sorts of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A deployment began or reached a phase.
    Phase,
    /// Something failed.
    Failure,
    /// A hold began or ended.
    Hold,
    /// A running slot was started again or stopped.
    Slot,
    /// An intake was refused, or accepted again.
    Intake,
    /// Something on this host's disk was damaged, and what was done about it.
    Damage,
    /// What only a newer version has a word for.
    #[serde(other)]
    Other,
}
