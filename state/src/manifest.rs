//! The manifest: what policy signs for each admission. Printing what was read gives the same bytes.

use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;

use crate::Refusal;
use crate::digest::{Domain, ReleaseId, Sha256Hash, TreeId};
use crate::name::{EnvironmentName, ServiceName};
use crate::release::Origin;

/// The most bytes that a manifest may have.
pub const MAX_BYTES: usize = 1 << 20;

/// The most changes that a manifest may have; the rest follow in the next.
pub const MAX_CHANGES: usize = 1000;

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

/// What can be admitted in an environment: a service, or the environment's rules.
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

// As manifests sort: `environment` stands among the services.
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

/// What the next manifest is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The sequence of the last manifest; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    pub hash: Sha256Hash,
    /// The trust version it named.
    pub trust: u64,
    /// When it was issued.
    pub issued: Timestamp,
}

impl Link {
    /// Before the first manifest.
    pub const START: Self = Self {
        sequence: 0,
        hash: Sha256Hash::ZERO,
        trust: 1,
        issued: Timestamp::UNIX_EPOCH,
    };
}

impl Manifest {
    /// Reads a manifest in its exact form.
    ///
    /// # Errors
    /// `MANIFEST_MALFORMED`.
    pub fn parse(_bytes: &[u8]) -> Result<Self, Refusal> {
        todo!()
    }

    /// The bytes that are signed.
    pub fn print(&self) -> String {
        todo!()
    }

    /// The hash of the printed bytes: what the next manifest names as `previous`.
    pub fn hash(&self) -> Sha256Hash {
        todo!()
    }

    /// What the next manifest is checked against.
    pub fn link(&self) -> Link {
        todo!()
    }

    /// Checks what the manifest alone shows: its fleet, its place in the chain and its time.
    ///
    /// # Errors
    /// `WRONG_DOMAIN`, `SEQUENCE_GAP`, `CHAIN_BROKEN`, `TRUST_MISMATCH` (older than the predecessor's),
    /// `TIME_REVERSED`, `ISSUED_IN_FUTURE`.
    pub fn check_follows(
        &self,
        _domain: &Domain,
        _previous: &Link,
        _now: Timestamp,
    ) -> Result<(), Refusal> {
        todo!()
    }
}
