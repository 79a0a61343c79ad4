//! The freshness statement: policy's (or a `fresh` key's) word that a manifest is still the newest one.

use jiff::Timestamp;

use crate::Refusal;
use crate::digest::{Domain, Sha256Hash};
use crate::manifest::Link;
use crate::unit::Period;

/// Which manifest is the newest, and until when that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The fleet.
    pub domain: Domain,
    /// The sequence of the newest manifest.
    pub sequence: u64,
    /// Its hash.
    pub manifest: Sha256Hash,
    /// When this was signed, in whole seconds.
    pub issued: Timestamp,
    /// When it ends, in whole seconds.
    pub expires: Timestamp,
}

impl Freshness {
    /// Reads a statement in its exact form.
    ///
    /// # Errors
    /// `FRESHNESS_MALFORMED`.
    pub fn parse(_bytes: &[u8]) -> Result<Self, Refusal> {
        todo!()
    }

    /// The bytes that are signed.
    pub fn print(&self) -> String {
        todo!()
    }

    /// Checks what the statement alone shows: its fleet, its time and its length.
    ///
    /// # Errors
    /// `WRONG_DOMAIN`, `ISSUED_IN_FUTURE`, `FRESHNESS_MISMATCH`.
    pub fn check(
        &self,
        _domain: &Domain,
        _longest: Period,
        _now: Timestamp,
    ) -> Result<(), Refusal> {
        todo!()
    }

    /// Until when the statement proves that `tip` is the newest manifest; `None` if it is about an older one.
    ///
    /// # Errors
    /// `LOG_FORK` if it names another manifest of the same sequence, `LOG_WITHHELD` if it knows a newer one.
    pub fn extends(&self, _tip: &Link) -> Result<Option<Timestamp>, Refusal> {
        todo!()
    }
}
