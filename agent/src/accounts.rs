//! The accounts of this host's services: a pair of numbers each, given once and kept in the service's record. Its
//! processes run as the first, its builds as the second, so that no service reads another's files and no build its
//! service's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};
use serde::Deserialize;
use state::name::ServiceName;
use state::{Code, Refusal};

use crate::config::{Config, Users};
use crate::fs;
use crate::layout::{Layout, ServiceLayout};
use crate::user::Account;

/// The accounts that were given out, and those that may be.
#[derive(Debug)]
pub struct Accounts {
    range: Option<Users>,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    services: BTreeMap<ServiceName, Account>,
    /// Also numbers of services that are gone, as long as they own something.
    taken: BTreeSet<u32>,
}

/// What is read of a record here; all else is the service's own affair.
#[derive(Deserialize)]
struct Recorded {
    account: Option<u32>,
}

impl Accounts {
    /// Finds what was given out, by the records and by the owners of the data folders.
    ///
    /// # Errors
    /// As [`check`].
    pub fn open(layout: &Layout, config: &Config) -> Result<Self, Refusal> {
        check(layout, config)?;
        let accounts = Self {
            range: config.users,
            given: Mutex::default(),
        };
        if geteuid().is_root() {
            accounts.find(layout);
        }
        Ok(accounts)
    }

    fn find(&self, layout: &Layout) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut owners: BTreeMap<u32, Vec<ServiceName>> = BTreeMap::new();
        for service in services(layout) {
            let folder = layout.service(&service);
            if let Some(number) = recorded(&folder) {
                given.give(service, Account(number));
            } else if let Ok(Some(owner)) = fs::owner(&folder.data()) {
                owners.entry(owner).or_default().push(service);
            }
        }
        // A service that was away, or whose record is lost. An account that several share was an older agent's.
        for (owner, services) in owners {
            let account = Account(owner);
            let free = account.numbers().map(|number| self.is_free(&given, number));
            match &services[..] {
                [service] if free == [true, true] => given.give(service.clone(), account),
                _ => drop(given.taken.insert(owner)),
            }
        }
    }

    fn is_free(&self, given: &Given, number: u32) -> bool {
        self.range
            .is_some_and(|range| (range.first..=range.last).contains(&number))
            && !given.taken.contains(&number)
    }

    /// The account of a service, which is given one if it has none; `None` if all runs as the agent itself does.
    ///
    /// # Errors
    /// `ACCOUNTS_EXHAUSTED`.
    pub fn of(&self, service: &ServiceName) -> Result<Option<Account>, Refusal> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = given.services.get(service) {
            return Ok(Some(*account));
        }
        let Some(range) = self.range else {
            return Ok(None);
        };
        // Beyond all others first: what a service that is gone has left outside its data stays nobody's for longer.
        let beyond = given.taken.range(..range.last).next_back();
        let beyond = beyond.map_or(range.first, |last| (last + 1).max(range.first));
        let free = (beyond..range.last)
            .chain(range.first..range.last)
            .map(Account)
            .find(|account| {
                account.numbers().map(|number| self.is_free(&given, number)) == [true; 2]
            });
        let account = free.ok_or_else(|| {
            let detail = format!("no two numbers of {range} are free for '{service}'");
            Refusal::new(Code::AccountsExhausted, detail)
        })?;
        given.give(service.clone(), account);
        Ok(Some(account))
    }
}

impl Given {
    fn give(&mut self, service: ServiceName, account: Account) {
        self.taken.extend(account.numbers());
        self.services.insert(service, account);
    }
}

/// Checks that this agent can give services accounts of their own, or need not. Root must at `/`, so that no service
/// runs as root by oversight; below a root of its own everything runs as whoever runs the agent, unless root says `users`.
///
/// # Errors
/// `AGENT_CONFIG_INVALID`.
pub fn check(layout: &Layout, config: &Config) -> Result<(), Refusal> {
    let invalid = |detail: &str| Err(Refusal::new(Code::AgentConfigInvalid, detail));
    let root = geteuid().is_root();
    if root && config.users.is_none() && layout.root() == Path::new("/") {
        return invalid("users: not given, required if the agent is root, such as 70000-79999");
    }
    if config.users.is_none() {
        return Ok(());
    }
    if !root {
        return invalid("users: given, but only root can start processes as other accounts");
    }
    let may = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP;
    if !may.contains(needed) {
        return invalid(
            "users: given, but the agent lacks CAP_SETUID, CAP_SETGID or CAP_SETPCAP: take CapabilityBoundingSet= from this version's writ-agent.service",
        );
    }
    Ok(())
}

/// The services that have a folder.
fn services(layout: &Layout) -> impl Iterator<Item = ServiceName> {
    let folders = std::fs::read_dir(layout.services());
    folders
        .into_iter()
        .flatten()
        .filter_map(|folder| folder.ok()?.file_name().to_str()?.parse().ok())
}

fn recorded(folder: &ServiceLayout) -> Option<u32> {
    let bytes = std::fs::read(folder.record()).ok()?;
    let account = serde_json::from_slice::<Recorded>(&bytes).ok()?.account;
    // Whatever a damaged record says, nothing runs as root for it.
    account.filter(|number| Users::may_hold(*number) && Users::may_hold(number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Remote;

    fn name(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        layout.create().unwrap();
        (root, layout)
    }

    fn config(users: Option<&str>) -> Config {
        let domain = crate::config::parse_domain(&format!("sha256:{}", "ab".repeat(32))).unwrap();
        let remotes = vec![Remote::new("/state.git".to_owned())];
        let (host, environment) = ("one".parse().unwrap(), "dev".parse().unwrap());
        let mut config = Config::new(host, environment, domain, remotes);
        config.users = users.map(|users| users.parse().unwrap());
        config
    }

    /// What an agent with the range `users` finds below `layout`, if it can be root.
    fn open(layout: &Layout, users: &str) -> Option<Accounts> {
        let opened = Accounts::open(layout, &config(Some(users)));
        geteuid().is_root().then(|| opened.unwrap())
    }

    fn number(accounts: &Accounts, service: &str) -> u32 {
        accounts.of(&name(service)).unwrap().unwrap().0
    }

    /// Leaves of a service what its removal leaves: the data, which belongs to `owner`.
    fn leave_data(layout: &Layout, service: &str, owner: u32) {
        let data = layout.service(&name(service)).data();
        std::fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::chown(data, Some(owner), Some(owner)).unwrap();
    }

    fn leave_record(layout: &Layout, service: &str, account: u32) {
        let layout = layout.service(&name(service));
        std::fs::create_dir_all(layout.path()).unwrap();
        let record = format!(r#"{{ "account": {account}, "a newer field": [] }}"#);
        std::fs::write(layout.record(), record).unwrap();
    }

    #[test]
    fn each_service_has_a_pair_until_there_are_none() {
        let (_root, layout) = layout();
        let Some(accounts) = open(&layout, "70000-70004") else {
            return;
        };
        assert_eq!(number(&accounts, "a"), 70_000);
        assert_eq!(number(&accounts, "b"), 70_002);
        assert_eq!(number(&accounts, "a"), 70_000);
        let refusal = accounts.of(&name("c")).unwrap_err();
        assert_eq!(refusal.code, Code::AccountsExhausted);
        let [slot, build] = [Account(70_002).slot(), Account(70_002).build()];
        assert_eq!((slot.uid, slot.gid), (70_002, 70_002));
        assert_eq!((build.uid, build.gid), (70_003, 70_003));
    }

    #[test]
    fn a_number_comes_from_the_record_whatever_the_range_is_now() {
        let (_root, layout) = layout();
        let Some(_) = open(&layout, "70000-70003") else {
            return;
        };
        leave_record(&layout, "a", 70_001);
        for (service, damaged) in [("c", 0), ("d", 61_183), ("e", u32::MAX)] {
            leave_record(&layout, service, damaged);
            assert_eq!(recorded(&layout.service(&name(service))), None);
        }
        let accounts = open(&layout, "70002-70004").unwrap();
        assert_eq!(number(&accounts, "a"), 70_001);
        // 70002 is the one of its builds.
        assert_eq!(number(&accounts, "b"), 70_003);
        // Without a range it keeps it too, and the others have none.
        let accounts = Accounts::open(&layout, &config(None)).unwrap();
        assert_eq!(number(&accounts, "a"), 70_001);
        assert_eq!(accounts.of(&name("b")).unwrap(), None);
    }

    #[test]
    fn the_number_of_a_service_that_left_is_not_given_to_another_while_its_data_is_there() {
        let (_root, layout) = layout();
        let Some(_) = open(&layout, "70000-70005") else {
            return;
        };
        leave_data(&layout, "gone", 70_000);
        leave_record(&layout, "here", 70_002);
        let accounts = open(&layout, "70000-70005").unwrap();
        assert_eq!(number(&accounts, "new"), 70_004);
        assert_eq!(
            accounts.of(&name("newer")).unwrap_err().code,
            Code::AccountsExhausted
        );
        // It comes back to what is its own.
        assert_eq!(number(&accounts, "gone"), 70_000);

        std::fs::remove_dir_all(layout.service(&name("gone")).path()).unwrap();
        let accounts = open(&layout, "70000-70005").unwrap();
        assert_eq!(number(&accounts, "new"), 70_004);
        assert_eq!(number(&accounts, "newer"), 70_000);
    }

    #[test]
    fn an_account_that_an_older_agent_gave_to_several_is_nobodys() {
        let (_root, layout) = layout();
        let Some(_) = open(&layout, "70000-70009") else {
            return;
        };
        leave_data(&layout, "a", 70_002);
        leave_data(&layout, "b", 70_002);
        leave_data(&layout, "c", 1_000);
        let accounts = open(&layout, "70000-70009").unwrap();
        for (service, expected) in [("a", 70_003), ("b", 70_005), ("c", 70_007)] {
            assert_eq!(number(&accounts, service), expected);
        }
    }

    #[test]
    fn root_at_the_real_root_must_say_which_accounts_and_nobody_else_can() {
        let (_root, below) = layout();
        let real = Layout::new(Path::new("/")).unwrap();
        let code = |layout, users| check(layout, &config(users)).err().map(|r| r.code);
        let (none, range) = (None, Some("70000-79999"));
        let invalid = Some(Code::AgentConfigInvalid);
        assert_eq!(code(&below, none), None);
        if geteuid().is_root() {
            assert_eq!(code(&real, none), invalid);
            assert_eq!(code(&real, range), None);
            assert_eq!(code(&below, range), None);
        } else {
            assert_eq!(code(&real, none), None);
            assert_eq!(code(&below, range), invalid);
        }
    }
}
