//! Ed25519 keys in OpenSSH's clothes: what a trust file lists and what a server signs with.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use ssh_key::public::KeyData;

use crate::Refusal;

/// A text that is not a usable public key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidKey {
    /// It is no OpenSSH public key line.
    #[error("expected an OpenSSH public key line: `ssh-ed25519 AAAA… comment`")]
    Malformed,
    /// It is a key of another kind.
    #[error("only ssh-ed25519 and sk-ssh-ed25519@openssh.com keys are accepted")]
    Algorithm,
    /// Anyone can sign for it.
    #[error("the key is weak: it was not made by a key generator")]
    Weak,
}

/// A public key that may sign statements: Ed25519, in software or on a security key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    data: KeyData,
}

impl PublicKey {
    /// OpenSSH's fingerprint of the key: `SHA256:` and 43 characters of base64.
    pub fn fingerprint(&self) -> Fingerprint {
        todo!()
    }

    /// Says whether the key lives on a security key, which answers only to a touch.
    pub fn is_hardware(&self) -> bool {
        todo!()
    }

    /// The point on the curve. Two keys with one point are one key, whatever they are called.
    pub(crate) fn point(&self) -> VerifyingKey {
        todo!()
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;
    fn from_str(_line: &str) -> Result<Self, InvalidKey> {
        todo!()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// OpenSSH's fingerprint of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A private key. It is never printed; its memory is wiped when it is dropped.
pub struct SigningKey(ssh_key::PrivateKey);

impl SigningKey {
    /// Makes a new key from the system's randomness.
    pub fn generate() -> Self {
        todo!()
    }

    /// Reads an unencrypted OpenSSH private key that nobody but its owner may change and strangers cannot read.
    ///
    /// # Errors
    /// `POLICY_KEY_MISSING` if there is no such file, else `KEY_UNUSABLE`.
    pub fn load(path: &Path) -> Result<Self, Refusal> {
        todo!("{path:?}")
    }

    /// The key as an OpenSSH private key file, for [`crate::file::write_atomic`] with mode 0600.
    pub fn to_openssh(&self) -> String {
        todo!("{:?}", self.0)
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        todo!()
    }
}
