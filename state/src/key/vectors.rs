//! The signatures of tests/vectors/ed25519.json, about which verifiers disagree; ed25519.py beside it makes them.

use std::collections::BTreeMap;

use ed25519_dalek::{Verifier as _, VerifyingKey};
use serde::Deserialize;
use ssh_key::public::{Ed25519PublicKey, KeyData};

use super::PublicKey;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    key: String,
    message: String,
    signature: String,
    expected: Expected,
    /// Whether a verifier that is not strict accepts it.
    lax: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    #[serde(rename = "valid")]
    Valid,
    #[serde(rename = "invalid")]
    Invalid,
    #[serde(rename = "refused key")]
    RefusedKey,
}

/// What we say of a vector.
fn verdict(key: [u8; 32], message: &[u8], signature: &[u8]) -> Expected {
    match PublicKey::new(KeyData::Ed25519(Ed25519PublicKey(key))) {
        Err(_) => Expected::RefusedKey,
        Ok(key) if key.verify(message, signature) => Expected::Valid,
        Ok(_) => Expected::Invalid,
    }
}

#[test]
fn signatures_at_the_edges_of_ed25519_are_judged_by_the_strict_rule() {
    let text = include_str!("../../tests/vectors/ed25519.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    let mut seen = BTreeMap::new();
    for vector in vectors {
        let [key, message, signature] =
            [&vector.key, &vector.message, &vector.signature].map(|hex| hex::decode(hex).unwrap());
        let key: [u8; 32] = key.try_into().unwrap();
        let name = &vector.name;
        assert_eq!(
            verdict(key, &message, &signature),
            vector.expected,
            "{name}"
        );
        // That the lax verifier of the same library agrees with the vector shows that its making is right: what we
        // refuse of that is refused for our rule, not for a slip in the arithmetic.
        let lax = VerifyingKey::from_bytes(&key).is_ok_and(|key| {
            let signature = ed25519_dalek::Signature::from_slice(&signature);
            signature.is_ok_and(|signature| key.verify(&message, &signature).is_ok())
        });
        let equation = vector.lax && !name.contains("R not canonical"); // the library compares R as it is spelled
        assert_eq!(lax, equation, "{name}");
        *seen.entry((vector.expected, vector.lax)).or_insert(0) += 1;
    }
    // Each kind is there, those that only strictness refuses above all.
    for (kind, least) in [
        ((Expected::Valid, true), 7),
        ((Expected::Invalid, false), 100),
        ((Expected::Invalid, true), 2),
        ((Expected::RefusedKey, true), 15),
        ((Expected::RefusedKey, false), 10),
    ] {
        assert!(
            seen.get(&kind).is_some_and(|count| *count >= least),
            "{kind:?}: {seen:?}"
        );
    }
}
