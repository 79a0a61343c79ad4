//! The trust file: who may sign what. Signed offline by a threshold of root keys; each version by its predecessor's too.

mod scope;
mod terms;

use std::ops::Deref;

use jiff::Timestamp;

use crate::Refusal;
use crate::commit::Commit;
use crate::digest::{Domain, Sha256Hash};
use crate::key::PublicKey;
use crate::manifest::TrustRef;

pub use scope::{Author, EnvironmentScope, Field, Glob, Right};
pub use terms::{Anchor, Ended, Fresh, Policy, Root, Terms};

/// The most bytes that a trust file or its signatures may have.
pub const MAX_BYTES: usize = 64 << 10;

/// A trust file in force: its terms, and the hash of the exact bytes that were signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    terms: Terms,
    hash: Sha256Hash,
}

impl Deref for Trust {
    type Target = Terms;
    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl Trust {
    /// Accepts the first trust file: its hash is `domain`, and its own root threshold signed it.
    ///
    /// # Errors
    /// `WRONG_DOMAIN`, `TRUST_INVALID`, `TRUST_ROLE_OVERLAP`, `TRUST_VERSION`, `TRUST_UNSIGNED`, `SIGNATURE_NONCANONICAL`.
    pub fn first(_bytes: &[u8], _signatures: &[u8], _domain: &Domain) -> Result<Self, Refusal> {
        todo!()
    }

    /// Accepts the next version: signed by this version's root threshold and by its own.
    ///
    /// # Errors
    /// As [`Trust::first`], and `TRUST_FORK` if `prev` is not this file.
    pub fn next(&self, _bytes: &[u8], _signatures: &[u8]) -> Result<Self, Refusal> {
        todo!()
    }

    /// Reads a file that is vouched for otherwise: its hash is a floor's, or nobody has signed it yet.
    ///
    /// # Errors
    /// `TRUST_INVALID`, `TRUST_ROLE_OVERLAP`.
    pub fn parse(_bytes: &[u8]) -> Result<Self, Refusal> {
        todo!()
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> Sha256Hash {
        self.hash
    }

    /// Its version and hash, as a manifest names it.
    pub fn reference(&self) -> TrustRef {
        todo!()
    }

    /// Checks what only matters before signing: that the file is not expired already.
    ///
    /// # Errors
    /// `TRUST_INVALID`.
    pub fn check_new(&self, _now: Timestamp) -> Result<(), Refusal> {
        todo!()
    }

    /// Checks that the file has not expired.
    ///
    /// # Errors
    /// `TRUST_EXPIRED`.
    pub fn check_expiry(&self, _now: Timestamp) -> Result<(), Refusal> {
        todo!()
    }

    /// The author whose key is `key`, if he has `right`.
    ///
    /// # Errors
    /// `AUTHOR_UNKNOWN`.
    pub fn author(&self, _key: &PublicKey, _right: Right) -> Result<&Author, Refusal> {
        todo!()
    }

    /// Checks that an author with the right to write `main` signed `commit`, and returns him.
    ///
    /// # Errors
    /// `AUTHOR_UNKNOWN`, `AUTHOR_BAD_SIGNATURE`.
    pub fn verify_commit(&self, _commit: &Commit) -> Result<&Author, Refusal> {
        todo!()
    }

    /// Checks that a policy key signed exactly these bytes as a manifest, and returns the key.
    ///
    /// # Errors
    /// `SIGNATURE_NONCANONICAL`, `MANIFEST_UNSIGNED`.
    pub fn verify_manifest(&self, _bytes: &[u8], _signature: &[u8]) -> Result<PublicKey, Refusal> {
        todo!()
    }

    /// Checks that a policy or `fresh` key signed exactly these bytes as a freshness statement.
    ///
    /// # Errors
    /// `SIGNATURE_NONCANONICAL`, `FRESHNESS_UNSIGNED`.
    pub fn verify_freshness(&self, _bytes: &[u8], _signature: &[u8]) -> Result<(), Refusal> {
        todo!()
    }

    /// Checks, in the newest trust file, that what a policy key signed at `sequence` still counts.
    ///
    /// # Errors
    /// `KEY_ENDED` unless the key is listed, or was ended no earlier than `sequence`.
    pub fn check_policy_key(&self, _key: &PublicKey, _sequence: u64) -> Result<(), Refusal> {
        todo!()
    }

    /// Checks, in the newest trust file, that what an author's key signed and was admitted at `sequence` still counts.
    ///
    /// # Errors
    /// `KEY_ENDED` unless the key is listed, or was ended no earlier than `sequence`.
    pub fn check_author_key(&self, _key: &PublicKey, _sequence: u64) -> Result<(), Refusal> {
        todo!()
    }
}
