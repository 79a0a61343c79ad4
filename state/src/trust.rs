//! The trust file: who may sign what. Signed offline by a threshold of root keys; each version by its predecessor's too.

mod glob;
#[cfg(test)]
mod newer;
mod right;
mod scope;
mod signer;
mod terms;

use std::ops::Deref;

use jiff::Timestamp;

use crate::digest::{Domain, Sha256Hash};
use crate::key::PublicKey;
use crate::manifest::TrustRef;
use crate::sshsig::{self, Namespace, Signature};
use crate::{Code, Refusal};

pub use glob::{Glob, InvalidGlob};
pub use right::{Right, Rights};
pub use scope::{Author, EnvironmentScope, Field, InvalidField};
pub use terms::{Anchor, Ended, Format, Fresh, Policy, Root, Terms};

/// The most bytes that a trust file may have.
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
    /// `WRONG_DOMAIN`, `TRUST_NEWER`, `TRUST_INVALID`, `TRUST_ROLE_OVERLAP`, `TRUST_VERSION`, `TRUST_UNSIGNED`, `SIGNATURE_NONCANONICAL`.
    pub fn first(bytes: &[u8], signatures: &[u8], domain: &Domain) -> Result<Self, Refusal> {
        let hash = Sha256Hash::of(bytes);
        if hash.0 != domain.0 {
            let detail = format!("the first trust file hashes to {hash}, expected {domain}");
            return Err(Refusal::new(Code::WrongDomain, detail));
        }
        let first = Self::parse(bytes)?;
        first.check_version(1)?;
        first.root.check(bytes, &sshsig::split(signatures)?)?;
        Ok(first)
    }

    /// Accepts the next version: signed by this version's root threshold and by its own.
    ///
    /// # Errors
    /// As [`Trust::first`], and `TRUST_FORK` if `prev` is not this file.
    pub fn next(&self, bytes: &[u8], signatures: &[u8]) -> Result<Self, Refusal> {
        check_size(bytes)?;
        let signatures = sshsig::split(signatures)?;
        self.root.check(bytes, &signatures)?;
        let next = Self::parse(bytes)?;
        next.root.check(bytes, &signatures)?;
        next.check_version(self.version.saturating_add(1))?;
        if next.prev != Some(self.hash) {
            let detail = format!(
                "trust {}: `prev` is not the hash of {}",
                next.version, self.version
            );
            return Err(Refusal::new(Code::TrustFork, detail));
        }
        Ok(next)
    }

    /// Reads a file that is vouched for otherwise: its hash is a floor's, or nobody has signed it yet.
    ///
    /// # Errors
    /// `TRUST_NEWER`, `TRUST_INVALID`, `TRUST_ROLE_OVERLAP`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        check_size(bytes)?;
        let terms = Terms::parse(bytes)?;
        let hash = Sha256Hash::of(bytes);
        Ok(Self { terms, hash })
    }

    fn check_version(&self, expected: u64) -> Result<(), Refusal> {
        if self.version != expected {
            let detail = format!("trust: version {}, expected {expected}", self.version);
            return Err(Refusal::new(Code::TrustVersion, detail));
        }
        Ok(())
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> Sha256Hash {
        self.hash
    }

    /// Its version and hash, as a manifest names it.
    pub fn reference(&self) -> TrustRef {
        TrustRef {
            version: self.version,
            sha256: self.hash,
        }
    }

    /// Checks what only matters before signing: that the file is not expired already.
    ///
    /// # Errors
    /// `TRUST_INVALID`.
    pub fn check_new(&self, now: Timestamp) -> Result<(), Refusal> {
        let expired = |refusal: Refusal| Refusal::new(Code::TrustInvalid, refusal.detail);
        self.check_expiry(now).map_err(expired)
    }

    /// Checks that the file has not expired.
    ///
    /// # Errors
    /// `TRUST_EXPIRED`.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.expires <= now {
            let detail = format!(
                "trust {}: expired at {}, now is {now}",
                self.version, self.expires
            );
            return Err(Refusal::new(Code::TrustExpired, detail));
        }
        Ok(())
    }
}

impl Root {
    /// Those of its keys that signed exactly `bytes` as a trust file.
    pub fn signers(&self, bytes: &[u8], signatures: &[Signature]) -> Vec<&PublicKey> {
        signers(&self.keys, Namespace::Trust, bytes, signatures)
    }

    /// Checks that at least `threshold` distinct keys signed exactly `bytes` as a trust file.
    fn check(&self, bytes: &[u8], signatures: &[Signature]) -> Result<(), Refusal> {
        let count = self.signers(bytes, signatures).len();
        if count < self.threshold {
            let detail = format!(
                "trust: signed by {count} root keys, expected {}",
                self.threshold
            );
            return Err(Refusal::new(Code::TrustUnsigned, detail));
        }
        Ok(())
    }
}

/// Those of the distinct `keys` that signed exactly `message`: the only count of signatures in the project.
///
/// It goes through the keys, not the signatures, so that a key that signed twice counts once.
fn signers<'a>(
    keys: &'a [PublicKey],
    namespace: Namespace,
    message: &[u8],
    signatures: &[Signature],
) -> Vec<&'a PublicKey> {
    let signed = |key: &&PublicKey| {
        let mut by_key = signatures
            .iter()
            .filter(|signature| signature.key() == *key);
        by_key.any(|signature| signature.verify(namespace, message).is_ok())
    };
    keys.iter().filter(signed).collect()
}

/// Checks the size of a trust file before anything else looks at it.
fn check_size(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > MAX_BYTES {
        let detail = format!("trust: {} bytes, expected at most {MAX_BYTES}", bytes.len());
        return Err(Refusal::new(Code::TrustInvalid, detail));
    }
    Ok(())
}

#[cfg(test)]
mod example {
    use super::*;
    use crate::key::SigningKey;

    /// A trust file with `extra` lines after those that must be there.
    pub(super) fn text(
        version: u64,
        threshold: usize,
        roots: &[&SigningKey],
        extra: &str,
    ) -> String {
        let roots = roots
            .iter()
            .map(|key| format!("\"{} r\"", key.public()))
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            "writ: trust/1\nname: acme\nversion: {version}\nexpires: 2027-11-01T00:00:00Z\n\
             root: {{ threshold: {threshold}, keys: [ {roots} ] }}\n{extra}"
        )
    }

    /// A policy role with `keys`, and an author.
    pub(super) fn roles(policy: &SigningKey, author: &SigningKey) -> String {
        format!(
            "policy: {{ keys: [ \"{}\" ], maxFreshness: 24h }}\nauthors:\n  - {{ name: alice, key: \"{}\", \
             environments: [ \"*\" ], paths: [ \"**\" ], may: [ author ] }}\n",
            policy.public(),
            author.public()
        )
    }

    /// The signatures of a trust file by `keys`.
    pub(super) fn sign(text: &str, keys: &[&SigningKey]) -> String {
        let sign = |key: &&SigningKey| sshsig::sign(key, Namespace::Trust, text.as_bytes());
        keys.iter().map(sign).collect()
    }

    /// Why `result` is a refusal.
    pub(super) fn code<T>(result: Result<T, Refusal>) -> Option<Code> {
        result.err().map(|refusal| refusal.code)
    }

    /// Makes `N` keys.
    pub(super) fn keys<const N: usize>() -> [SigningKey; N] {
        std::array::from_fn(|_| SigningKey::generate())
    }
}

#[cfg(test)]
mod tests {
    use super::example::{code, keys, roles, sign, text};
    use super::*;
    use crate::key::SigningKey;

    fn first(text: &str, keys: &[&SigningKey]) -> Result<Trust, Refusal> {
        let domain = Domain(Sha256Hash::of(text.as_bytes()).0);
        Trust::first(text.as_bytes(), sign(text, keys).as_bytes(), &domain)
    }

    #[test]
    fn the_first_file_needs_its_hash_and_its_own_threshold_of_distinct_keys() {
        let [r1, r2, r3, stranger, policy, author] = keys();
        let text = text(1, 2, &[&r1, &r2, &r3], &roles(&policy, &author));
        let accepted = first(&text, &[&r1, &r3, &stranger]).unwrap();
        assert_eq!(accepted.hash(), Sha256Hash::of(text.as_bytes()));
        assert_eq!(
            (accepted.limits.files, accepted.fresh.keys.len()),
            (20_000, 0)
        );
        assert_eq!(code(first(&text, &[&r1])), Some(Code::TrustUnsigned));
        assert_eq!(
            code(first(&text, &[&r1, &r1])),
            Some(Code::TrustUnsigned),
            "one key twice"
        );
        assert_eq!(
            code(first(&text, &[&r1, &stranger])),
            Some(Code::TrustUnsigned)
        );
        let other = Trust::first(
            text.as_bytes(),
            sign(&text, &[&r1, &r2]).as_bytes(),
            &Domain([0; 32]),
        );
        assert_eq!(code(other), Some(Code::WrongDomain));
        let elsewhere = sshsig::sign(&r1, Namespace::Git, text.as_bytes()) + &sign(&text, &[&r2]);
        let domain = Domain(accepted.hash().0);
        let misused = Trust::first(text.as_bytes(), elsewhere.as_bytes(), &domain);
        assert_eq!(
            code(misused),
            Some(Code::TrustUnsigned),
            "signed as a commit"
        );
        let junk = Trust::first(text.as_bytes(), b"junk", &domain);
        assert_eq!(code(junk), Some(Code::SignatureNoncanonical));
    }

    #[test]
    fn the_next_file_needs_both_thresholds_its_number_and_its_predecessor() {
        let [r1, r2, n1, n2, policy, author] = keys();
        let one = first(
            &text(1, 2, &[&r1, &r2], &roles(&policy, &author)),
            &[&r1, &r2],
        )
        .unwrap();
        let next = |version, prev: Sha256Hash, signers: &[&SigningKey]| {
            let extra = format!("prev: sha256:{prev}\n{}", roles(&policy, &author));
            let text = text(version, 2, &[&n1, &n2], &extra);
            one.next(text.as_bytes(), sign(&text, signers).as_bytes())
        };
        let all = [&r1, &r2, &n1, &n2];
        assert_eq!(next(2, one.hash(), &all).unwrap().reference().version, 2);
        assert_eq!(
            code(next(2, one.hash(), &[&n1, &n2])),
            Some(Code::TrustUnsigned),
            "not by the old root"
        );
        assert_eq!(
            code(next(2, one.hash(), &[&r1, &r2])),
            Some(Code::TrustUnsigned),
            "not by the new root"
        );
        assert_eq!(
            code(next(2, one.hash(), &[&r1, &n1, &n2])),
            Some(Code::TrustUnsigned)
        );
        assert_eq!(code(next(3, one.hash(), &all)), Some(Code::TrustVersion));
        assert_eq!(code(next(2, Sha256Hash::ZERO, &all)), Some(Code::TrustFork));
        let long = "#".repeat(MAX_BYTES + 1);
        assert_eq!(
            code(one.next(long.as_bytes(), b"")),
            Some(Code::TrustInvalid)
        );
    }

    #[test]
    fn a_file_is_of_no_use_after_it_expired() {
        let [root, policy, author] = keys();
        let trust =
            Trust::parse(text(1, 1, &[&root], &roles(&policy, &author)).as_bytes()).unwrap();
        let at = |time: &str| time.parse().unwrap();
        assert_eq!(trust.check_expiry(at("2027-10-31T23:59:59Z")), Ok(()));
        assert_eq!(
            code(trust.check_expiry(at("2027-11-01T00:00:00Z"))),
            Some(Code::TrustExpired)
        );
        assert_eq!(
            code(trust.check_new(at("2027-11-01T00:00:00Z"))),
            Some(Code::TrustInvalid)
        );
    }
}
