//! What a trust file says, as its holders write it.

use jiff::Timestamp;

use crate::digest::{PayloadHash, Sha256Hash};
use crate::key::{Fingerprint, PublicKey};
use crate::name::Label;
use crate::tree::Limits;
use crate::unit::Period;

use super::Author;

/// Who may sign what, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What people call the fleet.
    pub name: Label,
    /// Counts up by one; the file's name.
    pub version: u64,
    /// The hash of the version before; absent only in version 1.
    pub prev: Option<Sha256Hash>,
    /// When it ends, unless a newer one was accepted.
    pub expires: Timestamp,
    /// Who signs trust files.
    pub root: Root,
    /// Who signs manifests.
    pub policy: Policy,
    /// Who may do nothing but extend freshness.
    pub fresh: Fresh,
    /// Who writes `main`, approves and attests.
    pub authors: Vec<Author>,
    /// Keys that were rotated out or stolen.
    pub ended: Vec<Ended>,
    /// Where the log goes on after the compromise of a policy key.
    pub anchor: Option<Anchor>,
    /// How large a tree may be.
    pub limits: Limits,
}

/// The root role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// How many distinct keys must sign.
    pub threshold: usize,
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// The policy role; one signature admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The keys, one for each policy server.
    pub keys: Vec<PublicKey>,
    /// How long a manifest or a freshness statement proves that it is the newest.
    pub max_freshness: Period,
}

/// The freshness role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// A key whose later signatures do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its fingerprint.
    pub key: Fingerprint,
    /// The last manifest at which its signatures count.
    pub last_sequence: u64,
    /// Why, for people.
    pub reason: String,
}

/// Root's word for the log up to a manifest: a host at any floor below `next` continues there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The sequence of the manifest that root vouches for.
    pub sequence: u64,
    /// Its hash.
    pub manifest: Sha256Hash,
    /// The sequence of the next manifest, above any that was seen.
    pub next: u64,
    /// The commit up to which root vouches for `main`.
    pub main: PayloadHash,
}

impl Terms {
    /// The file's text, for a root holder to sign.
    pub fn to_yaml(&self) -> String {
        todo!()
    }
}
