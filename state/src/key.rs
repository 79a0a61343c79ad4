//! Ed25519 keys in OpenSSH's clothes: what a trust file lists and what a server signs with.
//! Keys of other kinds, and keys for which anyone can sign, do not become a value of these types.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, LineEnding};

use crate::{Code, Refusal};

/// A text that is not a usable public key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidKey {
    /// It is no OpenSSH public key line.
    #[error("expected an OpenSSH public key line: `ssh-ed25519 AAAA… comment`")]
    Malformed,
    /// It is a key of another kind.
    #[error("only ssh-ed25519 and sk-ssh-ed25519@openssh.com keys are accepted")]
    Algorithm,
    /// Anyone can sign for it, or it has a second spelling.
    #[error("the key is weak: no key generator made it")]
    Weak,
}

/// A public key that may sign statements: Ed25519, in software or on a security key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    data: KeyData,
    point: VerifyingKey,
}

impl PublicKey {
    /// Takes a decoded key if it is of a kind that is accepted, and not weak.
    pub(crate) fn new(data: KeyData) -> Result<Self, InvalidKey> {
        let bytes = match &data {
            KeyData::Ed25519(key) => key.0,
            KeyData::SkEd25519(key) => key.public_key().0,
            _ => return Err(InvalidKey::Algorithm),
        };
        let point = VerifyingKey::from_bytes(&bytes).map_err(|_| InvalidKey::Malformed)?;
        if point.is_weak() || !is_canonical(&bytes) {
            return Err(InvalidKey::Weak);
        }
        Ok(Self { data, point })
    }

    /// OpenSSH's fingerprint of the key.
    pub fn fingerprint(&self) -> Fingerprint {
        let print = self.data.fingerprint(HashAlg::Sha256).sha256();
        Fingerprint(print.expect("SHA-256 was asked for"))
    }

    /// The application that a security key's signatures are bound to; `None` for a key in software.
    pub fn application(&self) -> Option<&str> {
        self.data.sk_ed25519().map(|key| key.application())
    }

    /// Says whether `signature` is the key's signature of exactly `message`: the one place where Ed25519 is verified.
    ///
    /// Strictly, so that no second signature can be made from one: S is below the group's order, R is no point of small
    /// order and spelled canonically, and the equation holds without the cofactor.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = ed25519_dalek::Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.point.verify_strict(message, &signature).is_ok())
    }

    /// The point on the curve. Two keys with one point are one key, whatever they are called.
    pub(crate) fn point(&self) -> &VerifyingKey {
        &self.point
    }
}

/// Says whether y is below the field's prime, 2^255 − 19, so that the point has no second spelling (RFC 8032, 5.1.3).
/// The two points with x = 0, whose sign could be spelled in two ways, are weak.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = point;
    let above = *first >= 0xed && middle.iter().all(|byte| *byte == 0xff) && last & 0x7f == 0x7f;
    !above
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    /// Reads an OpenSSH public key line; the comment is dropped.
    fn from_str(line: &str) -> Result<Self, InvalidKey> {
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|_| InvalidKey::Malformed)?;
        Self::new(key.key_data().clone())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = ssh_key::PublicKey::from(self.data.clone()).to_openssh();
        f.write_str(&line.map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// OpenSSH's fingerprint of a key: `SHA256:` and 43 characters of base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is not a fingerprint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a key's fingerprint as `ssh-keygen -l` prints it: `SHA256:` and 43 characters")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let base64 = text.strip_prefix("SHA256:").ok_or(InvalidFingerprint)?;
        let bytes = STANDARD_NO_PAD.decode(base64);
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(InvalidFingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("SHA256:{}", STANDARD_NO_PAD.encode(self.0)))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The most bytes that a private key file may have.
const MAX_KEY_FILE: u64 = 16 << 10;

/// A private key. It is never printed; its memory is wiped when it is dropped.
pub struct SigningKey {
    private: ssh_key::PrivateKey,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key from the system's randomness.
    pub fn generate() -> Self {
        let random = &mut ssh_key::rand_core::OsRng;
        let private = ssh_key::PrivateKey::random(random, Algorithm::Ed25519)
            .expect("ssh-key is built with Ed25519");
        let public = PublicKey::new(private.public_key().key_data().clone())
            .expect("a generated key is never weak");
        Self { private, public }
    }

    /// Reads an unencrypted OpenSSH private key that strangers can neither read nor change.
    ///
    /// Its group may read it: that is how systemd hands a credential to a service's user.
    ///
    /// # Errors
    /// `POLICY_KEY_MISSING` if there is no such file, else `KEY_UNUSABLE`.
    pub fn load(path: &Path) -> Result<Self, Refusal> {
        let unusable = |why: &str| {
            let detail = format!("private key {}: {why}", path.display());
            Refusal::new(Code::KeyUnusable, detail)
        };
        let status = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let detail = format!("no private key at {}", path.display());
                Refusal::new(Code::PolicyKeyMissing, detail)
            }
            _ => unusable(&error.to_string()),
        })?;
        if status.mode() & 0o027 != 0 {
            let mode = status.mode() & 0o7777;
            return Err(unusable(&format!("its mode is {mode:o}, expected 600")));
        }
        if !status.is_file() || status.len() > MAX_KEY_FILE {
            return Err(unusable("it is not a key file"));
        }
        let private = ssh_key::PrivateKey::read_openssh_file(path)
            .map_err(|error| unusable(&format!("it is not an OpenSSH private key: {error}")))?;
        if private.is_encrypted() {
            return Err(unusable(
                "it is encrypted; nobody could type a passphrase here",
            ));
        }
        if private.algorithm() != Algorithm::Ed25519 {
            return Err(unusable("it is not an Ed25519 key in software"));
        }
        let public = PublicKey::new(private.public_key().key_data().clone())
            .map_err(|error| unusable(&error.to_string()))?;
        Ok(Self { private, public })
    }

    /// The key as an OpenSSH private key file, for [`crate::file::write_atomic`] with mode 0600. Wiped when dropped.
    pub fn to_openssh(&self) -> impl Deref<Target = String> {
        let text = self.private.to_openssh(LineEnding::LF);
        text.expect("an unencrypted key can be encoded")
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key for `ssh-key`'s signing.
    pub(crate) fn private(&self) -> &ssh_key::PrivateKey {
        &self.private
    }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::oracle::Oracle;

    #[test]
    fn a_generated_key_is_read_by_ssh_keygen_and_by_us() {
        let oracle = Oracle::new();
        let key = SigningKey::generate();
        let path = oracle.write("key", key.to_openssh().as_bytes());
        let public = oracle.run("ssh-keygen", &["-y", "-f", "key"]);
        assert_eq!(public, key.public().to_string());
        let listed = oracle.run("ssh-keygen", &["-l", "-f", "key"]);
        let fingerprint = key.public().fingerprint().to_string();
        assert_eq!(listed.split(' ').nth(1), Some(fingerprint.as_str()));
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
    }

    #[test]
    fn encrypted_foreign_missing_and_readable_private_keys_are_refused_with_a_reason() {
        let oracle = Oracle::new();
        for (name, kind, passphrase) in [
            ("sealed", "ed25519", "secret"),
            ("rsa", "rsa", ""),
            ("open", "ed25519", ""),
        ] {
            oracle.run(
                "ssh-keygen",
                &["-q", "-t", kind, "-N", passphrase, "-f", name],
            );
        }
        set_permissions(oracle.path().join("open"), Permissions::from_mode(0o644)).unwrap();
        oracle.write("junk", "no key");
        for (name, code, why) in [
            ("sealed", Code::KeyUnusable, "encrypted"),
            ("rsa", Code::KeyUnusable, "not an Ed25519 key"),
            ("open", Code::KeyUnusable, "mode is 644"),
            ("junk", Code::KeyUnusable, "not an OpenSSH private key"),
            ("absent", Code::PolicyKeyMissing, "no private key"),
        ] {
            let refusal = SigningKey::load(&oracle.path().join(name)).err().unwrap();
            assert_eq!(refusal.code, code, "{refusal}");
            assert!(refusal.detail.contains(why), "{refusal}");
        }
    }

    #[test]
    fn weak_foreign_and_broken_public_keys_are_refused() {
        let line = |point: [u8; 32]| {
            let key = KeyData::Ed25519(ssh_key::public::Ed25519PublicKey(point));
            ssh_key::PublicKey::from(key).to_openssh().unwrap()
        };
        let mut identity = [0; 32];
        identity[0] = 1;
        // y = p + 3: a second spelling of y = 3, a point that is not weak.
        let mut second = [0xff; 32];
        (second[0], second[31]) = (0xf0, 0x7f);
        let oracle = Oracle::new();
        oracle.run("ssh-keygen", &["-q", "-t", "rsa", "-N", "", "-f", "key"]);
        let rsa = String::from_utf8(oracle.read("key.pub")).unwrap();
        for (bad, why) in [
            (line([0; 32]), InvalidKey::Weak),
            (line(identity), InvalidKey::Weak),
            (line(second), InvalidKey::Weak),
            (line([2; 32]), InvalidKey::Malformed),
            (rsa, InvalidKey::Algorithm),
            (String::new(), InvalidKey::Malformed),
        ] {
            assert_eq!(bad.parse::<PublicKey>().unwrap_err(), why, "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_has_one_spelling() {
        let print = SigningKey::generate().public().fingerprint();
        let text = print.to_string();
        assert_eq!(text.parse(), Ok(print));
        for bad in [&text[1..], &format!("{text}="), &text[..49], "MD5:00"] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(InvalidFingerprint), "{bad}");
        }
    }
}
