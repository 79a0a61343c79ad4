//! Names that people choose, validated once, at the edge: a value of these types needs no further check
//! before it is used in a path, a unit name or a message.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that does not match `[a-z][a-z0-9-]{0,39}`, or a reserved word.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidName {
    /// Some character or the length is wrong.
    #[error("expected a lower-case letter, then at most 39 of a-z, 0-9 and '-'")]
    Grammar,
    /// `environment` names an environment's rules wherever a service name could stand.
    #[error("'environment' is reserved for the rules of an environment")]
    Reserved,
}

fn check(text: &str) -> Result<(), InvalidName> {
    let mut bytes = text.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if head && tail && text.len() <= 40 {
        Ok(())
    } else {
        Err(InvalidName::Grammar)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident $(, reserved $reserved:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check(text)?;
                $(if text == $reserved {
                    return Err(InvalidName::Reserved);
                })?
                Ok(Self(text.to_owned()))
            }
        }

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
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

name!(
    /// What is deployed: the folder name under `services/`.
    ServiceName, reserved "environment"
);
name!(
    /// A set of hosts with rules: the folder name under `environments/`.
    EnvironmentName
);
name!(
    /// One host, unique in its environment.
    HostName
);
name!(
    /// A key or a value of a host label, and the name of a credential.
    Label
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in [
            "",
            "..",
            "a/b",
            "Web",
            "1web",
            "web_1",
            "web.yaml",
            &"a".repeat(41),
        ] {
            assert_eq!(
                bad.parse::<ServiceName>(),
                Err(InvalidName::Grammar),
                "{bad:?}"
            );
        }
        assert_eq!(
            "environment".parse::<ServiceName>(),
            Err(InvalidName::Reserved)
        );
        assert!("environment".parse::<EnvironmentName>().is_ok());
        assert!("web-2".parse::<ServiceName>().is_ok());
    }
}
