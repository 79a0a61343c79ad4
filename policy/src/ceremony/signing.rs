//! Who of root signed a trust file, and one signature more.

use state::Refusal;
use state::key::PublicKey;
use state::sshsig::{self, Signature};
use state::trust::{Root, Trust};

/// What ends a signature in a file of several.
const END: &str = "-----END SSH SIGNATURE-----\n";

/// How many of a root role signed.
#[derive(Clone, Debug)]
pub struct Tally<'a> {
    /// The version whose root role it is.
    pub version: u64,
    /// The role.
    pub root: &'a Root,
    /// Those of its keys that signed.
    pub signed: Vec<&'a PublicKey>,
}

impl Tally<'_> {
    /// Says whether the threshold is met.
    pub fn is_met(&self) -> bool {
        self.signed.len() >= self.root.threshold
    }
}

/// Who signed exactly `bytes`, the text of `next`: of its own root, and of the root of the version before it.
pub fn tallies<'a>(
    previous: Option<&'a Trust>,
    next: &'a Trust,
    bytes: &[u8],
    signatures: &[Signature],
) -> Vec<Tally<'a>> {
    let tally = |trust: &'a Trust| Tally {
        version: trust.version,
        root: &trust.root,
        signed: trust.root.signers(bytes, signatures),
    };
    previous.into_iter().chain([next]).map(tally).collect()
}

/// The text of a `.sig` file with one signature more; an earlier one of the same key gives way.
///
/// # Errors
/// `SIGNATURE_NONCANONICAL` if the file is no list of signatures.
pub fn with(file: &[u8], key: &PublicKey, armor: &str) -> Result<String, Refusal> {
    let mut text = String::new();
    if !file.is_empty() {
        sshsig::split(file)?;
        for one in String::from_utf8_lossy(file).split_inclusive(END) {
            if Signature::parse(one.as_bytes())?.key() != key {
                text.push_str(one);
            }
        }
    }
    Ok(text + armor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::key::SigningKey;
    use state::sshsig::Namespace;

    #[test]
    fn a_key_that_signs_again_takes_the_place_of_its_earlier_signature() {
        let [one, two] = [SigningKey::generate(), SigningKey::generate()];
        let by = |key: &SigningKey, text: &[u8]| sshsig::sign(key, Namespace::Trust, text);
        let file = with(b"", one.public(), &by(&one, b"old")).unwrap();
        let file = with(file.as_bytes(), two.public(), &by(&two, b"new")).unwrap();
        let file = with(file.as_bytes(), one.public(), &by(&one, b"new")).unwrap();
        assert_eq!(file, by(&two, b"new") + &by(&one, b"new"));
        assert!(with(b"junk", one.public(), &by(&one, b"new")).is_err());
    }
}
