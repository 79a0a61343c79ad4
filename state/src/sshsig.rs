//! SSHSIG, read strictly and written as `ssh-keygen -Y sign` writes it.
//!
//! A signature has one spelling: what is read must equal what we would write of it, to the last byte, so that
//! nobody without the key can make a second commit out of a signed one. Source: OpenSSH's PROTOCOL.sshsig.

use sha2::{Digest as _, Sha256};
use ssh_key::{HashAlg, LineEnding, SshSig};

use crate::key::{PublicKey, SigningKey};
use crate::{Code, Refusal};

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

impl Namespace {
    /// The text in a signature; for `ssh-keygen -Y sign -n`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Trust => "trust@writ",
            Self::Manifest => "manifest@writ",
            Self::Freshness => "freshness@writ",
            Self::Approval => "approval@writ",
            Self::Attestation => "attestation@writ",
            Self::Report => "report@writ",
        }
    }
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

/// The most bytes of signatures that are read in one file.
const MAX_BYTES: usize = 64 << 10;

/// What ends an armored signature.
const END: &[u8] = b"-----END SSH SIGNATURE-----\n";

/// The bit of a security key's flags that says that somebody touched it.
const USER_PRESENT: u8 = 0x01;

/// One signature in its canonical form, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
    decoded: SshSig,
}

impl Signature {
    /// Reads one armored signature, exactly as ssh-keygen writes it, final newline included.
    ///
    /// # Errors
    /// `SIGNATURE_NONCANONICAL` for anything else, other algorithms and weak keys included.
    pub fn parse(armor: &[u8]) -> Result<Self, Refusal> {
        if armor.len() > MAX_BYTES {
            return Err(noncanonical("it is too long"));
        }
        let decoded = SshSig::from_pem(armor).map_err(|error| noncanonical(&error.to_string()))?;
        let key = PublicKey::new(decoded.public_key().clone())
            .map_err(|error| noncanonical(&error.to_string()))?;
        if decoded.version() != SshSig::VERSION || !decoded.reserved().is_empty() {
            return Err(noncanonical("its version or reserved field is not in use"));
        }
        if decoded.algorithm() != decoded.public_key().algorithm() {
            return Err(noncanonical("its key and its signature are of two kinds"));
        }
        let again = decoded.to_pem(LineEnding::LF);
        if again.ok().is_none_or(|again| again.as_bytes() != armor) {
            return Err(noncanonical("it is not spelled as ssh-keygen spells it"));
        }
        Ok(Self { key, decoded })
    }

    /// The key that the signature claims to be by.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Checks that the key signed exactly `message` as a statement of `namespace`.
    pub fn verify(&self, namespace: Namespace, message: &[u8]) -> Result<(), Invalid> {
        let expected = namespace.as_str();
        if self.decoded.namespace() != expected {
            let got = self.decoded.namespace().to_owned();
            return Err(Invalid::Namespace { got, expected });
        }
        let signed = SshSig::signed_data(expected, self.decoded.hash_alg(), message);
        let signed = signed.map_err(|_| Invalid::Mismatch)?;
        let bytes = self.decoded.signature_bytes();
        match (self.key.application(), bytes) {
            (None, signature) => self.verify_bytes(&signed, signature),
            // PROTOCOL.u2f: the signature, then one byte of flags and four of a counter, both signed too.
            (Some(application), [signature @ .., flags, c0, c1, c2, c3]) => {
                if flags & USER_PRESENT == 0 {
                    return Err(Invalid::NotTouched);
                }
                let mut touched = Sha256::digest(application).to_vec();
                touched.extend([flags, c0, c1, c2, c3]);
                touched.extend(Sha256::digest(&signed));
                self.verify_bytes(&touched, signature)
            }
            _ => Err(Invalid::Mismatch),
        }
    }

    /// Checks the bare Ed25519 signature.
    fn verify_bytes(&self, signed: &[u8], signature: &[u8]) -> Result<(), Invalid> {
        match self.key.verify(signed, signature) {
            true => Ok(()),
            false => Err(Invalid::Mismatch),
        }
    }
}

/// Refuses a signature for its form.
fn noncanonical(why: &str) -> Refusal {
    Refusal::new(Code::SignatureNoncanonical, format!("signature: {why}"))
}

/// Reads a `.sig` file: one or more armored signatures, one after the other, and nothing else.
///
/// # Errors
/// `SIGNATURE_NONCANONICAL`.
pub fn split(mut file: &[u8]) -> Result<Vec<Signature>, Refusal> {
    if file.len() > MAX_BYTES {
        return Err(noncanonical("the file of signatures is too long"));
    }
    let mut signatures = Vec::new();
    loop {
        let end = file.windows(END.len()).position(|window| window == END);
        let (armor, rest) = file.split_at(end.map_or(file.len(), |start| start + END.len()));
        signatures.push(Signature::parse(armor)?);
        if rest.is_empty() {
            return Ok(signatures);
        }
        file = rest;
    }
}

/// Signs `message` as a statement of `namespace`; returns the armored signature.
pub fn sign(key: &SigningKey, namespace: Namespace, message: &[u8]) -> String {
    let signature = key
        .private()
        .sign(namespace.as_str(), HashAlg::Sha512, message);
    let armor = signature.and_then(|signature| signature.to_pem(LineEnding::LF));
    armor.expect("an Ed25519 key in memory can sign")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ed25519_dalek::Signer as _;
    use proptest::prelude::*;
    use ssh_key::public::{KeyData, SkEd25519};

    use super::*;
    use crate::oracle::Oracle;

    const MESSAGE: &[u8] = b"writ: trust/1\n";

    /// Says whether `ssh-keygen -Y verify` accepts `armor` for `message` by `key`.
    fn ssh_keygen_accepts(oracle: &Oracle, key: &PublicKey, namespace: &str, armor: &str) -> bool {
        oracle.write("allowed", format!("me {key}\n"));
        oracle.write("m.sig", armor);
        let arguments = [
            "-Y", "verify", "-f", "allowed", "-I", "me", "-n", namespace, "-s", "m.sig",
        ];
        oracle.try_run("ssh-keygen", &arguments, MESSAGE).is_some()
    }

    /// A signature by a security key that exists in software only.
    fn by_security_key(flags: u8) -> String {
        let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let point = ssh_key::public::Ed25519PublicKey(secret.verifying_key().to_bytes());
        let signed = SshSig::signed_data("trust@writ", HashAlg::Sha512, MESSAGE).unwrap();
        let tail = [flags, 0, 0, 0, 9];
        let touched = [&Sha256::digest("ssh:")[..], &tail, &Sha256::digest(signed)].concat();
        let bytes = [&secret.sign(&touched).to_bytes()[..], &tail].concat();
        let bytes = ssh_key::Signature::new(ssh_key::Algorithm::SkEd25519, bytes).unwrap();
        let key = KeyData::SkEd25519(SkEd25519::new(point, "ssh:"));
        let signature = SshSig::new(key, "trust@writ", HashAlg::Sha512, bytes).unwrap();
        signature.to_pem(LineEnding::LF).unwrap()
    }

    #[test]
    fn ssh_keygen_verifies_what_we_sign() {
        let oracle = Oracle::new();
        let key = SigningKey::generate();
        let armor = sign(&key, Namespace::Trust, MESSAGE);
        assert!(ssh_keygen_accepts(
            &oracle,
            key.public(),
            "trust@writ",
            &armor
        ));
        assert!(!ssh_keygen_accepts(&oracle, key.public(), "git", &armor));
    }

    #[test]
    fn what_ssh_keygen_signs_is_verified_for_its_bytes_and_namespace_only() {
        let oracle = Oracle::new();
        let key = SigningKey::generate();
        oracle.write("key", key.to_openssh().as_bytes());
        for hash in ["sha512", "sha256"] {
            let option = format!("hashalg={hash}");
            let arguments = ["-Y", "sign", "-f", "key", "-n", "trust@writ", "-O", &option];
            let armor = oracle.try_run("ssh-keygen", &arguments, MESSAGE).unwrap();
            let signature = Signature::parse(&armor).unwrap();
            assert_eq!(signature.key(), key.public());
            assert_eq!(signature.verify(Namespace::Trust, MESSAGE), Ok(()));
            assert_eq!(
                signature.verify(Namespace::Trust, b"else"),
                Err(Invalid::Mismatch)
            );
            let other = signature.verify(Namespace::Manifest, MESSAGE);
            assert!(matches!(other, Err(Invalid::Namespace { .. })));
        }
    }

    #[test]
    fn a_security_key_counts_only_if_it_was_touched() {
        let oracle = Oracle::new();
        let touched = by_security_key(0x01);
        let signature = Signature::parse(touched.as_bytes()).unwrap();
        assert_eq!(signature.verify(Namespace::Trust, MESSAGE), Ok(()));
        assert!(ssh_keygen_accepts(
            &oracle,
            signature.key(),
            "trust@writ",
            &touched
        ));
        let untouched = Signature::parse(by_security_key(0x04).as_bytes()).unwrap();
        assert_eq!(
            untouched.verify(Namespace::Trust, MESSAGE),
            Err(Invalid::NotTouched)
        );
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        let oracle = Oracle::new();
        for kind in ["rsa", "ecdsa"] {
            oracle.run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-f", kind]);
            let arguments = ["-Y", "sign", "-f", kind, "-n", "git"];
            let armor = oracle.try_run("ssh-keygen", &arguments, MESSAGE).unwrap();
            let refusal = Signature::parse(&armor).unwrap_err();
            assert_eq!(refusal.code, Code::SignatureNoncanonical, "{kind}");
        }
    }

    #[test]
    fn a_second_spelling_of_a_signature_is_refused() {
        let armor = sign(&SigningKey::generate(), Namespace::Git, MESSAGE);
        let body = armor
            .replace("-----BEGIN SSH SIGNATURE-----\n", "")
            .replace("\n-----END SSH SIGNATURE-----\n", "");
        let lines: Vec<_> = body.split('\n').collect();
        let rewrapped = armor.replacen(&lines[..2].join("\n"), &lines[..2].concat(), 1);
        let noncanonical = [
            rewrapped,
            armor.trim_end().to_owned(),
            format!("{armor}\n"),
            format!("\n{armor}"),
            armor.replace('\n', "\r\n"),
            armor.replacen("\nU1NI", "\nA: b\n\nU1NI", 1),
            format!("{armor}{armor}"),
        ];
        for spelling in &noncanonical {
            assert_ne!(spelling, &armor);
            let refusal = Signature::parse(spelling.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, Code::SignatureNoncanonical);
        }
    }

    #[test]
    fn fields_that_no_signer_sets_are_refused() {
        let armor = sign(&SigningKey::generate(), Namespace::Git, MESSAGE);
        let body = armor
            .replace("-----BEGIN SSH SIGNATURE-----", "")
            .replace("-----END SSH SIGNATURE-----", "");
        let raw = STANDARD.decode(body.replace('\n', "")).unwrap();
        // "SSHSIG", version, 4 + 51 bytes of key, "git", reserved, hash algorithm, signature.
        let reserved = 6 + 4 + 55 + 7;
        let version_0 = [&raw[..9], &[0], &raw[10..]].concat();
        let reserved_used = [&raw[..reserved], b"\0\0\0\x01x", &raw[reserved + 4..]].concat();
        let trailing = [&raw[..], b"x"].concat();
        let armored = |raw: &[u8]| {
            let text = STANDARD.encode(raw);
            let lines: Vec<_> = text
                .as_bytes()
                .chunks(70)
                .map(|line| str::from_utf8(line).unwrap())
                .collect();
            format!(
                "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
                lines.join("\n")
            )
        };
        assert_eq!(armored(&raw), armor);
        for changed in [version_0, reserved_used, trailing] {
            let refusal = Signature::parse(armored(&changed).as_bytes()).unwrap_err();
            assert_eq!(refusal.code, Code::SignatureNoncanonical);
        }
    }

    #[test]
    fn a_file_of_several_signatures_is_split_and_junk_between_them_refused() {
        let keys = [SigningKey::generate(), SigningKey::generate()];
        let [first, second] = keys
            .each_ref()
            .map(|key| sign(key, Namespace::Trust, MESSAGE));
        let both = split(format!("{first}{second}").as_bytes()).unwrap();
        let by: Vec<_> = both.iter().map(Signature::key).collect();
        assert_eq!(by, [keys[0].public(), keys[1].public()]);
        for bad in [
            "",
            "\n",
            &format!("{first}\n{second}"),
            &format!("{first}{second}x"),
        ] {
            assert_eq!(
                split(bad.as_bytes()).unwrap_err().code,
                Code::SignatureNoncanonical
            );
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_never_another_valid_signature(at in 0_usize..300, byte: u8) {
            let key = SigningKey::generate();
            let mut armor = sign(&key, Namespace::Git, MESSAGE).into_bytes();
            let at = at % armor.len();
            prop_assume!(armor[at] != byte);
            armor[at] = byte;
            let verified = Signature::parse(&armor).is_ok_and(|signature| {
                signature.key() == key.public() && signature.verify(Namespace::Git, MESSAGE).is_ok()
            });
            prop_assert!(!verified);
        }
    }
}
