//! The chain of manifests: each names its predecessor and comes after it.

use std::fmt;

use jiff::Timestamp;

use super::Manifest;
use crate::digest::{Domain, Sha256Hash};
use crate::floor::SKEW;
use crate::{Code, Refusal};

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
    /// What the next manifest is checked against.
    pub fn link(&self) -> Link {
        Link {
            sequence: self.sequence,
            hash: self.hash(),
            trust: self.trust.version,
            issued: self.issued,
        }
    }

    /// Checks what the manifest alone shows: its fleet, its place in the chain and its time.
    ///
    /// # Errors
    /// `WRONG_DOMAIN`, `SEQUENCE_GAP`, `CHAIN_BROKEN`, `TRUST_MISMATCH` (older than the predecessor's),
    /// `TIME_REVERSED`, `ISSUED_IN_FUTURE`.
    pub fn check_follows(
        &self,
        domain: &Domain,
        previous: &Link,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let refuse = |code, what: &str, got: &dyn fmt::Display, expected: &dyn fmt::Display| {
            let detail = format!(
                "manifest {}: {what} {got}, expected {expected}",
                self.sequence
            );
            Err(Refusal::new(code, detail))
        };
        let next = previous.sequence.saturating_add(1);
        if self.domain != *domain {
            return refuse(Code::WrongDomain, "domain", &self.domain, domain);
        }
        if self.sequence != next {
            return refuse(Code::SequenceGap, "sequence", &self.sequence, &next);
        }
        if self.previous != previous.hash {
            return refuse(
                Code::ChainBroken,
                "previous",
                &self.previous,
                &previous.hash,
            );
        }
        if self.trust.version < previous.trust {
            let least = format!("at least {}", previous.trust);
            return refuse(Code::TrustMismatch, "trust", &self.trust.version, &least);
        }
        if self.issued < previous.issued {
            let least = format!("no earlier than {}", previous.issued);
            return refuse(Code::TimeReversed, "issued", &self.issued, &least);
        }
        if self.issued.duration_since(now) > SKEW {
            let most = format!("no later than {now} and 5 minutes");
            return refuse(Code::IssuedInFuture, "issued", &self.issued, &most);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::example::{manifest, now};

    #[test]
    fn a_manifest_follows_its_predecessor_only() {
        let manifest = manifest();
        let previous = Link {
            sequence: 41,
            hash: Sha256Hash([2; 32]),
            trust: 7,
            issued: now(),
        };
        let code = |domain: u8, previous: Link, now: &str| {
            let result =
                manifest.check_follows(&Domain([domain; 32]), &previous, now.parse().unwrap());
            result.err().map(|refusal| refusal.code)
        };
        let at = "2026-11-20T23:45:00Z";
        assert_eq!(code(1, previous, at), None);
        assert_eq!(code(2, previous, at), Some(Code::WrongDomain));
        assert_eq!(
            code(
                1,
                Link {
                    sequence: 40,
                    ..previous
                },
                at
            ),
            Some(Code::SequenceGap)
        );
        assert_eq!(
            code(
                1,
                Link {
                    sequence: 42,
                    ..previous
                },
                at
            ),
            Some(Code::SequenceGap)
        );
        assert_eq!(
            code(
                1,
                Link {
                    hash: Sha256Hash::ZERO,
                    ..previous
                },
                at
            ),
            Some(Code::ChainBroken)
        );
        assert_eq!(
            code(
                1,
                Link {
                    trust: 8,
                    ..previous
                },
                at
            ),
            Some(Code::TrustMismatch)
        );
        let later = "2026-11-20T23:50:01Z".parse().unwrap();
        assert_eq!(
            code(
                1,
                Link {
                    issued: later,
                    ..previous
                },
                at
            ),
            Some(Code::TimeReversed)
        );
        assert_eq!(
            code(1, previous, "2026-11-20T23:44:59Z"),
            Some(Code::IssuedInFuture)
        );
        assert_eq!(manifest.link().sequence, 42);
    }
}
