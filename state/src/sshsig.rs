//! SSHSIG, read strictly and written as `ssh-keygen -Y sign` writes it: a signature has one spelling only.

use crate::Refusal;
use crate::key::{PublicKey, SigningKey};

/// What a signature is for; one made for one kind of statement never counts for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// A commit on `main`, by an author.
    Git,
    /// A trust file, by root.
    Trust,
    /// A manifest, by policy.
    Manifest,
    /// A freshness statement, by policy or a `fresh` key.
    Freshness,
    /// An approval, by an author with that right.
    Approval,
    /// An attestation, by an author with that right.
    Attestation,
    /// A report, by a host.
    Report,
}

/// Why a well-formed signature does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// It was made for another kind of statement.
    #[error("the signature is for namespace '{got}', expected '{expected}'")]
    Namespace {
        /// The namespace in the signature.
        got: String,
        /// The namespace of the statement.
        expected: &'static str,
    },
    /// Nobody touched the security key.
    #[error("the security key was not touched: its user-presence flag is not set")]
    NotTouched,
    /// It is not the key's signature of these bytes.
    #[error("the signature does not match the signed bytes")]
    Mismatch,
}

/// One signature in its canonical form, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
}

impl Signature {
    /// Reads one armored signature, exactly as ssh-keygen writes it, final newline included.
    ///
    /// # Errors
    /// `SIGNATURE_NONCANONICAL` for anything else, other algorithms and weak keys included.
    pub fn parse(_armor: &[u8]) -> Result<Self, Refusal> {
        todo!()
    }

    /// The key that the signature claims to be by.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Checks that the key signed exactly `message` as a statement of `namespace`.
    pub fn verify(&self, _namespace: Namespace, _message: &[u8]) -> Result<(), Invalid> {
        todo!()
    }
}

/// Reads a `.sig` file: one or more armored signatures, one after the other, and nothing else.
///
/// # Errors
/// `SIGNATURE_NONCANONICAL`.
pub fn split(_file: &[u8]) -> Result<Vec<Signature>, Refusal> {
    todo!()
}

/// Signs `message` as a statement of `namespace`; returns the armored signature.
pub fn sign(_key: &SigningKey, _namespace: Namespace, _message: &[u8]) -> String {
    todo!()
}
