//! The two places in which a service's processes run, and what they are there for. A slot's name never changes;
//! its role does, and promotion is nothing but a change of roles.

use std::fmt;

use serde::{Deserialize, Serialize};
use state::durable::Unknown;

/// One of a service's two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The place of the first release of a service.
    Blue,
    /// The other one.
    Green,
}

impl Slot {
    /// The slot beside this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// The slot's name, as in files, sockets and the variable `SLOT`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the process in a slot is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It serves, or serves again when the candidate fails.
    Stable,
    /// It is on its way to becoming stable.
    Candidate,
    /// It finishes what it has begun and is then stopped.
    Draining,
    /// Nothing runs there.
    Idle,
    /// One of a newer version.
    #[serde(untagged)]
    Unknown(Unknown),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_written_in_lower_case_and_has_one_other() {
        for slot in [Slot::Blue, Slot::Green] {
            assert_eq!(serde_json::to_value(slot).unwrap(), slot.as_str());
            assert_ne!(slot.other(), slot);
            assert_eq!(slot.other().other(), slot);
        }
    }
}
