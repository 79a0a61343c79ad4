//! Where policy verified its own log before, so that it need not begin at the first entry each time.
//!
//! Agents have no use for it: their floor is a checkpoint of another kind, which also remembers what they were shown.

use serde::{Deserialize, Serialize};

use crate::digest::{ObjectId, Sha256Hash};
use crate::manifest::TrustRef;

use super::chain::Chain;

/// An entry up to which everything passed: the entries, and the commits of `main` that they were made from.
///
/// Whoever could write it could make policy believe anything: it is kept where nobody else can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The trust file in force, by which all of it was judged.
    pub trust: TrustRef,
    /// The entry's sequence.
    pub sequence: u64,
    /// The hash of its manifest.
    pub manifest: Sha256Hash,
    /// Its commit on `admitted`.
    pub commit: ObjectId,
}

impl Checkpoint {
    /// Says whether what passed would pass again: not under another trust file, which may end keys at earlier sequences.
    pub fn counts(&self, chain: &Chain) -> bool {
        chain.newest().reference() == self.trust && !self.is_before_anchor(chain)
    }

    /// Says whether root has told since where the log goes on, without this entry or with it.
    pub fn is_before_anchor(&self, chain: &Chain) -> bool {
        let anchor = chain.newest().anchor.as_ref();
        anchor.is_some_and(|anchor| self.sequence < anchor.next)
    }
}
