//! Digests and object ids: fixed-size values with one textual form each, so that no two kinds can be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A text that is not the expected number of lower-case hex digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected {expected} lower-case hex digits")]
pub struct NotHex {
    expected: usize,
}

/// Decodes exactly `N` bytes of lower-case hex; upper case is refused so that a value has one spelling.
fn decode<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let mut bytes = [0; N];
    let lower = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if lower => Ok(bytes),
        _ => Err(NotHex { expected: N * 2 }),
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 2 * $len];
                hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
                f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = NotHex;
            fn from_str(text: &str) -> Result<Self, NotHex> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl $name {
            /// The first 12 hex digits: enough for a person to tell two apart, never used to decide.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(12);
                text
            }
        }
    };
}

hex_id!(
    /// A SHA-256 of some exact bytes, written as 64 hex digits.
    Sha256Hash, 32
);
hex_id!(
    /// A git object id of a SHA-1 repository. It names an object; it proves nothing about its content.
    ObjectId, 20
);
hex_id!(
    /// The id of a release: the SHA-256 of its canonical form without `origin` (see [`crate::release`]).
    ReleaseId, 32
);
hex_id!(
    /// The SHA-256 of a commit's bytes without its `gpgsig` header: a commit's identity, whatever its signature's spelling.
    PayloadHash, 32
);
hex_id!(
    /// The id that git gives a tree in a repository of object format SHA-256.
    TreeId, 32
);
hex_id!(
    /// The fleet: the SHA-256 of its first trust file. Hosts are enrolled with it.
    Domain, 32
);

impl Sha256Hash {
    /// What a chain's first link names as its predecessor.
    pub const ZERO: Self = Self([0; 32]);

    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_and_wrong_lengths_are_refused() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(id.parse::<ObjectId>().unwrap().to_string(), id);
        assert!(id.to_uppercase().parse::<ObjectId>().is_err());
        assert!(id[1..].parse::<ObjectId>().is_err());
    }
}
