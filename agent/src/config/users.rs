//! The range of accounts in agent.yaml.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers that are given to nobody else: above people and system accounts, below the subordinate ids of containers,
/// and without those in between that systemd gives to `DynamicUser` (61184-65519), `nobody` and the 16-bit -1.
const FREE: [RangeInclusive<u32>; 2] = [1_000..=61_183, 65_536..=99_999];

/// An inclusive range of account numbers, written `70000-79999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Users {
    /// Says whether a range may hold `number`.
    pub fn may_hold(number: u32) -> bool {
        FREE.iter().any(|free| free.contains(&number))
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Users {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (first, last) = text.split_once('-')?;
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            let mut free = FREE.iter();
            let free = free.any(|free| free.contains(&first) && free.contains(&last));
            (free && first < last).then_some(Self { first, last })
        };
        parse().ok_or(
            "expected two numbers within 1000-61183 or 65536-99999, two for each service, such as 70000-79999",
        )
    }
}

impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_others_give_out_are_refused() {
        for good in ["70000-79999", "1000-1001", "1000-61183", "65536-99999"] {
            assert_eq!(good.parse::<Users>().unwrap().to_string(), good);
        }
        for bad in [
            "0-99999",
            "999-2000",
            "60000-61184",
            "61184-65519",
            "60000-70000",
            "65000-66000",
            "65534-65536",
            "90000-100000",
            "100000-165535",
            "79999-70000",
            "70000-70000",
            "70000",
            "-1-70000",
            "a-b",
            "",
        ] {
            assert!(bad.parse::<Users>().is_err(), "{bad}");
        }
    }
}
