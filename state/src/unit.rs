//! Quantities as people write them (`30s`, `512MiB`, `200%`) and the one spelling each prints as,
//! so that a release's canonical form does not depend on how its author wrote a number.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a whole number followed by one of the known units.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a whole number with one of the units {units}, such as {example}")]
pub struct InvalidQuantity {
    units: &'static str,
    example: &'static str,
}

/// Splits `text` into digits and unit and multiplies; `None` if either is unknown or the product overflows.
fn scale(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Prints `value` in the largest unit that divides it.
fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (name, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| value.is_multiple_of(*factor) && value > 0)
        .unwrap_or(&units[0]);
    f.pad(&format!("{}{name}", value / factor))
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $units:ident, $expected:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl FromStr for $name {
            type Err = InvalidQuantity;
            fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
                scale(text, $units).map(Self).ok_or(InvalidQuantity { units: $expected, example: $example })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(self.0, $units, f)
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
    };
}

const TIME: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZE: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
const SHARE: &[(&str, u64)] = &[("%", 1)];

quantity!(
    /// A length of time in milliseconds, written `500ms`, `30s`, `10m`, `24h` or `30d`.
    Period, TIME, "ms, s, m, h, d", "30s"
);
quantity!(
    /// A number of bytes, written `64KiB`, `512MiB`, `2GiB`.
    Bytes, SIZE, "B, KiB, MiB, GiB, TiB", "512MiB"
);
quantity!(
    /// A share of one processor, in percent: `200%` is two processors.
    Percent, SHARE, "%", "200%"
);

impl Period {
    /// `seconds` as a period.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// `minutes` as a period.
    pub const fn minutes(minutes: u64) -> Self {
        Self(minutes * 60_000)
    }

    /// As the standard library's type, for timers.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_quantity_print_alike() {
        for (text, printed) in [
            ("60s", "1m"),
            ("90s", "90s"),
            ("0s", "0ms"),
            ("24h", "1d"),
            ("1500ms", "1500ms"),
        ] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), printed);
        }
        assert_eq!("1024MiB".parse::<Bytes>().unwrap().to_string(), "1GiB");
        assert_eq!("200%".parse::<Percent>().unwrap().to_string(), "200%");
    }

    #[test]
    fn a_number_without_a_unit_or_too_large_is_refused() {
        for bad in [
            "",
            "30",
            "s",
            "1.5h",
            "-1s",
            "05s",
            "1 s",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(bad.parse::<Period>().is_err(), "{bad:?}");
        }
    }
}
