//! Accounts of this host, by their numbers: what processes run as, and who asks.

use std::fs;

use serde::{Deserialize, Serialize};
use state::durable::Extra;

/// Where the accounts of this host are listed.
const ACCOUNTS: &str = "/etc/passwd";

/// An account of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// What a newer version noted in a slot's order.
    #[serde(flatten)]
    pub extra: Extra,
}

impl User {
    /// The account with this number and the group with the same; neither need be listed anywhere.
    pub fn numbered(number: u32) -> Self {
        Self {
            name: number.to_string(),
            uid: number,
            gid: number,
            extra: Extra::default(),
        }
    }
}

/// Who asks, for people: the account `uid`, and whom `sudo` says it stands for.
pub fn who(uid: u32, sudo: Option<&str>) -> String {
    let accounts = fs::read_to_string(ACCOUNTS).unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    let name = name.unwrap_or_else(|| format!("user {uid}"));
    match sudo {
        Some(sudo) => format!("{name}, by sudo for {sudo}"),
        None => name,
    }
}

/// The two accounts of a service, by the number of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account(pub u32);

impl Account {
    /// What the service's processes and probes run as.
    pub fn slot(self) -> User {
        User::numbered(self.0)
    }

    /// What its builds and tests run as.
    pub fn build(self) -> User {
        User::numbered(self.0 + 1)
    }

    pub(crate) fn numbers(self) -> [u32; 2] {
        [self.0, self.0 + 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_told_by_name() {
        assert_eq!(who(0, None), "root");
        assert_eq!(who(0, Some("eve")), "root, by sudo for eve");
    }
}
