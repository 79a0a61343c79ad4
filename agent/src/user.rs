//! The account that slots and builds run as when the agent is root.

use std::fs;

use serde::{Deserialize, Serialize};
use state::durable::Extra;
use state::refusal::{Code, Refusal};

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
    /// The local account called `name`; accounts of a directory service are not looked up.
    pub fn by_name(name: &str) -> Result<Self, Refusal> {
        let refuse = |detail: String| Refusal::new(Code::ConfigInvalid, detail);
        let accounts = fs::read_to_string(ACCOUNTS)
            .map_err(|error| refuse(format!("cannot read {ACCOUNTS}: {error}")))?;
        let user = accounts.lines().find_map(|line| Self::parse(line, name));
        user.ok_or_else(|| refuse(format!("user '{name}' is not in {ACCOUNTS}")))
    }

    /// Reads `name:password:uid:gid:…`, if it is the line of `name`.
    fn parse(line: &str, name: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [account, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        (account == name).then_some(())?;
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            extra: Extra::default(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        assert_eq!(User::by_name("root").unwrap().uid, 0);
        assert_eq!(who(0, None), "root");
        assert_eq!(who(0, Some("eve")), "root, by sudo for eve");
        assert_eq!(User::by_name("roo").unwrap_err().code, Code::ConfigInvalid);
        assert_eq!(User::by_name("").unwrap_err().code, Code::ConfigInvalid);
    }
}
