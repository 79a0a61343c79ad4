//! What an author may do.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, IntoDeserializer as _};
use serde::{Deserialize, Deserializer};

/// What an author may do. A right that this version does not know, `attest` and `override` among them, grants nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    known: BTreeSet<Right>,
    unknown: BTreeSet<String>,
}

impl Rights {
    /// Says whether `right` is one of them.
    pub fn contains(&self, right: Right) -> bool {
        self.known.contains(&right)
    }

    /// Those that this version does not know; a person should hear of them.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut known, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for text in Vec::<String>::deserialize(deserializer)? {
            let name: StrDeserializer<'_, de::value::Error> = text.as_str().into_deserializer();
            match Right::deserialize(name) {
                Ok(right) => drop(known.insert(right)),
                Err(_) => drop(unknown.insert(text)),
            }
        }
        Ok(Self { known, unknown })
    }
}

/// One thing that an author may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Right {
    /// Sign commits on `main`.
    Author,
    /// Sign approvals.
    Approve,
    /// Change `environment.yaml` and `repository.yaml`.
    Rules,
    /// Hold releases.
    Hold,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Author => "author",
            Self::Approve => "approve",
            Self::Rules => "rules",
            Self::Hold => "hold",
        })
    }
}
