//! The manifest: what policy signs for each admission. Printing what was read gives the same bytes.

mod form;
mod link;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::digest::{Domain, ReleaseId, Sha256Hash, TreeId};
use crate::name::{EnvironmentName, InvalidName, ServiceName};
use crate::release::Origin;

pub use form::{MAX_BYTES, MAX_CHANGES};
pub use link::Link;

/// What one admission says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The fleet.
    pub domain: Domain,
    /// Its place in the log; the first is 1.
    pub sequence: u64,
    /// The hash of the manifest before it; zeros at 1.
    pub previous: Sha256Hash,
    /// The trust file it was made under.
    pub trust: TrustRef,
    /// The commit of `main` it was made from.
    pub author: Origin,
    /// The SHA-256 id of that commit's tree.
    pub author_tree: TreeId,
    /// The SHA-256 id of the admitted tree without `manifest` and `manifest.sig`.
    pub tree: TreeId,
    /// What changed against the manifest before it, sorted.
    pub changes: Vec<Change>,
    /// All holds in force, sorted.
    pub holds: Vec<Hold>,
    /// When policy signed it, in whole seconds.
    pub issued: Timestamp,
}

/// A trust file by version and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRef {
    /// Its version.
    pub version: u64,
    /// The hash of its bytes.
    pub sha256: Sha256Hash,
}

/// What can be admitted in an environment: a service, or the environment's rules. Ordered by its text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The rules, written `environment`.
    Rules,
    /// A service.
    Service(ServiceName),
}

impl Subject {
    /// How manifests and paths call it: the service's name, or `environment`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rules => "environment",
            Self::Service(name) => name.as_str(),
        }
    }
}

impl Ord for Subject {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Subject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.parse() {
            Ok(name) => Ok(Self::Service(name)),
            Err(InvalidName::Reserved) => Ok(Self::Rules),
            Err(error) => Err(error),
        }
    }
}

/// One release that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub subject: Subject,
    /// The release admitted before; `None` if there was none.
    pub from: Option<ReleaseId>,
    /// The release admitted now; `None` if it left.
    pub to: Option<ReleaseId>,
}

impl Change {
    /// What the changes of a manifest are sorted by; each place stands once.
    pub fn place(&self) -> (&EnvironmentName, &Subject) {
        (&self.environment, &self.subject)
    }
}

/// A release that must not be deployed, although it is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Where.
    pub environment: EnvironmentName,
    /// What.
    pub subject: Subject,
    /// Why: `[A-Z][A-Z0-9_]{0,63}`.
    pub reason: String,
}

impl Hold {
    /// The reason code of what authors hold; policy gives it to nothing else.
    pub const AUTHOR: &'static str = "AUTHOR";

    /// Says whether a text has the form of a reason code.
    pub fn is_reason(text: &str) -> bool {
        let tail = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let head = text.starts_with(|first: char| first.is_ascii_uppercase());
        head && text.bytes().all(tail) && text.len() <= 64
    }

    /// Says whether this is the hold of a service.
    pub fn holds(&self, environment: &EnvironmentName, service: &ServiceName) -> bool {
        let named = matches!(&self.subject, Subject::Service(name) if name == service);
        named && self.environment == *environment
    }

    /// What the holds of a manifest are sorted by; each place stands once.
    pub fn place(&self) -> (&EnvironmentName, &Subject) {
        (&self.environment, &self.subject)
    }
}

#[cfg(test)]
mod example {
    use super::*;
    use crate::digest::{ObjectId, PayloadHash};

    /// When it was issued.
    pub(super) fn now() -> Timestamp {
        "2026-11-20T23:50:00Z".parse().unwrap()
    }

    /// Manifest 42 of a fleet, with every kind of line.
    pub(super) fn manifest() -> Manifest {
        let change = |environment: &str, subject: &str, from: Option<u8>, to: Option<u8>| Change {
            environment: environment.parse().unwrap(),
            subject: subject.parse().unwrap(),
            from: from.map(|byte| ReleaseId([byte; 32])),
            to: to.map(|byte| ReleaseId([byte; 32])),
        };
        Manifest {
            domain: Domain([1; 32]),
            sequence: 42,
            previous: Sha256Hash([2; 32]),
            trust: TrustRef {
                version: 7,
                sha256: Sha256Hash([3; 32]),
            },
            author: Origin {
                commit: ObjectId([4; 20]),
                payload: PayloadHash([5; 32]),
            },
            author_tree: TreeId([6; 32]),
            tree: TreeId([7; 32]),
            changes: vec![
                change("dev", "environment", None, Some(8)),
                change("dev", "web", Some(9), Some(10)),
                change("prod", "api", Some(11), None),
            ],
            holds: vec![Hold {
                environment: "prod".parse().unwrap(),
                subject: "web".parse().unwrap(),
                reason: "BAD_BUILD".to_owned(),
            }],
            issued: now(),
        }
    }
}
