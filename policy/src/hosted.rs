//! A state repository that is hosted elsewhere: on a forge, or on any git server without our hooks.
//!
//! Policy works on a bare mirror of its own, whose branches look like those of a repository that it serves itself. Before
//! it judges, the mirror is brought to what the remote shows; what it decides is pushed, by compare-and-swap, and the
//! mirror's branches follow. What verified stays in the mirror, whatever the remote does to its branches.
//!
//! The remote is asked by stock git, with the credentials and the ssh configuration of the account that policy runs as.

mod mirror;
mod push;
mod remote;
mod url;

pub mod way_out;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::thread;
use std::time::Duration;

use state::digest::ObjectId;
use state::git::{Git, RefUpdate};
use state::name::Label;
use state::unit::Period;
use state::{Code, Refusal};

pub(crate) use mirror::{make, refuse_hooks};
use push::Pushed;
use remote::Remote;

use crate::branch::Branch;
use crate::program::bounded;
use crate::settings::Settings;
use crate::way_out::{PassedOver, WayOut};

/// What is mirrored, beside approvals.
const BRANCHES: [Branch; 4] = [Branch::Main, Branch::Trust, Branch::Admitted, Branch::Fresh];

/// Where approvals are pushed to.
const APPROVALS: &str = "refs/heads/approvals/";

/// The longest pause after the first race that was lost.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a repository is hosted, and how often it is asked.
#[derive(Debug)]
pub struct Upstream {
    remote: Remote,
    /// How long nothing is asked after it was.
    pub poll: Period,
    /// The branches that could not be fetched, where they point on the remote, and why: they are not asked for again.
    unfetched: RefCell<BTreeMap<String, (ObjectId, Refusal)>>,
}

/// Whose branches moved on the remote since it was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moved {
    /// None.
    Nothing,
    /// Only those that policy writes: another server did.
    Policys,
    /// Those of authors or root holders too.
    Theirs,
}

impl Upstream {
    /// What `settings` say of the remote of the mirror at `mirror`; `None` if they name none.
    ///
    /// # Errors
    /// If the remote's URL or a number is not one that policy works with.
    pub(crate) fn new(mirror: &Path, settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(url) = &settings.remote else {
            return Ok(None);
        };
        let remote = Remote::new(url, mirror, settings)?;
        let poll = settings.poll()?;
        Ok(Some(Self {
            remote,
            poll,
            unfetched: RefCell::default(),
        }))
    }

    /// The remote's URL.
    pub fn url(&self) -> &str {
        self.remote.url()
    }

    /// Brings the branches of the mirror to what the remote shows. Costs no fetch if nothing moved.
    ///
    /// # Errors
    /// `FETCH_FAILED`, `FETCH_TIMEOUT`, `FETCH_TOO_BIG`; `REPOSITORY_UNSUPPORTED` for object format sha256. What keeps
    /// only a branch of authors or root holders from being fetched is in [`Upstream::passed_over`].
    pub(crate) fn refresh(&self, git: &Git) -> Result<Moved, Refusal> {
        let before = ours(git.all()?);
        let mut patterns: Vec<_> = BRANCHES.map(Branch::full_name).into();
        patterns.push(format!("{APPROVALS}*"));
        let shown = self.fetchable(ours(self.remote.list(&patterns)?), &before);
        if shown == before {
            return Ok(Moved::Nothing);
        }
        mirror::sweep(git)?;
        let gone = before.iter().filter(|(name, _)| !shown.contains_key(*name));
        let gone = gone.map(|(name, id)| RefUpdate {
            name: name.clone(),
            expected: Some(*id),
            new: None,
        });
        let gone: Vec<_> = gone.collect();
        if !gone.is_empty() {
            git.transaction(&gone)?;
        }
        // The four as of one time: the log may name a trust file that was not there when the branches were listed.
        let news = shown
            .iter()
            .filter(|(name, id)| !name.starts_with(APPROVALS) || before.get(*name) != Some(*id));
        let news: Vec<_> = news.map(|(name, _)| name.as_str()).collect();
        if !news.is_empty() {
            self.fetch(git, &shown, &news)?;
        }
        let after = ours(git.all()?);
        let names = before.keys().chain(after.keys());
        let moved = names.filter(|name| before.get(*name) != after.get(*name));
        let moved = moved.map(|name| match is_policys(name) {
            true => Moved::Policys,
            false => Moved::Theirs,
        });
        Ok(moved.max().unwrap_or(Moved::Nothing))
    }

    /// What the remote has `shown`, without what could not be fetched and still stands there: in its place what the
    /// mirror had `before`.
    fn fetchable(
        &self,
        mut shown: BTreeMap<String, ObjectId>,
        before: &BTreeMap<String, ObjectId>,
    ) -> BTreeMap<String, ObjectId> {
        let mut unfetched = self.unfetched.borrow_mut();
        unfetched.retain(|name, (bad, _)| shown.get(name) == Some(bad));
        for name in unfetched.keys() {
            match before.get(name) {
                Some(kept) => shown.insert(name.clone(), *kept),
                None => shown.remove(name),
            };
        }
        shown
    }

    /// Fetches `news` together. If that fails, one by one: what somebody pushed to one branch stops no other.
    fn fetch(
        &self,
        git: &Git,
        shown: &BTreeMap<String, ObjectId>,
        news: &[&str],
    ) -> Result<(), Refusal> {
        let mut unfetched = self.unfetched.borrow_mut();
        let wanted = news.iter().filter(|name| !unfetched.contains_key(**name));
        let wanted: Vec<_> = wanted.copied().collect();
        let Err(together) = self.remote.fetch(&wanted) else {
            return Ok(());
        };
        if !together.code.may_be_one_branch() {
            return Err(together);
        }
        let mut failed = BTreeMap::new();
        for name in &wanted {
            mirror::sweep(git)?;
            if let Err(refusal) = self.remote.fetch(&[name]) {
                failed.insert((*name).to_owned(), (shown[*name], refusal));
            }
        }
        // The remote is away, or nobody but policy moves what cannot be fetched.
        if failed.len() == wanted.len() || failed.keys().any(|name| is_policys(name)) {
            return Err(together);
        }
        mirror::sweep(git)?;
        unfetched.extend(failed);
        Ok(())
    }

    /// The branches that could not be fetched; the mirror has of each what it had before.
    pub(crate) fn passed_over(&self, git: &Git) -> Result<Vec<PassedOver>, Refusal> {
        let unfetched = self.unfetched.borrow();
        let passed_over = unfetched.iter().map(|(name, (bad, refusal))| {
            Ok(PassedOver {
                refusal: refusal.clone().at(format_args!("'{name}' at {bad}")),
                way_out: WayOut::SetBack {
                    name: name.clone(),
                    good: git.resolve(name)?,
                    bad: Some(*bad),
                },
            })
        });
        passed_over.collect()
    }

    /// Moves branches of the remote, all or none, from where they are expected.
    ///
    /// # Errors
    /// `LOST_RACE` if one is elsewhere; `PUSH_REFUSED` if the remote does not let policy; `PUSH_FAILED` and
    /// `FETCH_TIMEOUT` if it is not known whether they moved.
    pub(crate) fn push(&self, updates: &[RefUpdate]) -> Result<(), Refusal> {
        let (pushed, said) = self.remote.push(updates)?;
        let (code, why) = match pushed {
            Pushed::Done => return Ok(()),
            Pushed::Lost(why) => (Code::LostRace, why),
            Pushed::Refused(why) => (Code::PushRefused, why),
            Pushed::Unknown => (Code::PushFailed, "no answer to the push".to_owned()),
        };
        Err(self.remote.refusal(code, &[why.as_str(), said.as_str()]))
    }

    /// Packs what passes and fetches left, once there is much of it. It only saves space.
    pub(crate) fn tidy(&self) {
        self.remote.collect_garbage();
    }
}

/// Waits for a while that is another each time, and longer the more races were `lost`.
///
/// # Errors
/// `INTERRUPTED` if this process is to end.
pub(crate) fn pause(lost: u32) -> Result<(), Refusal> {
    if bounded::is_interrupted() {
        return Err(Refusal::new(Code::Interrupted, "ended by a signal"));
    }
    let longest = PAUSE * lost.min(10);
    thread::sleep(longest.mul_f64(chance()));
    Ok(())
}

/// A number from 0 to 1 that no other process draws at the same time.
pub fn chance() -> f64 {
    let drawn = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(drawn).unwrap_or_default()) / f64::from(u32::MAX)
}

/// The branches of a state repository among `refs`.
fn ours(refs: impl IntoIterator<Item = (String, ObjectId)>) -> BTreeMap<String, ObjectId> {
    let branches = BRANCHES.map(Branch::full_name);
    refs.into_iter()
        .filter(|(name, _)| branches.contains(name) || is_approval(name))
        .collect()
}

/// Says whether a branch has the name of an approval, `approvals/ENVIRONMENT/SERVICE/PERSON`. Other names are not even
/// handed to git.
fn is_approval(name: &str) -> bool {
    let parts = name.strip_prefix(APPROVALS).map(|rest| rest.split('/'));
    parts.is_some_and(|mut parts| {
        parts.clone().count() == 3 && parts.all(|part| part.parse::<Label>().is_ok())
    })
}

fn is_policys(name: &str) -> bool {
    [Branch::Admitted, Branch::Fresh]
        .iter()
        .any(|branch| branch.full_name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_branch_but_the_four_and_approvals_is_looked_at() {
        let id = ObjectId([1; 20]);
        let look = |name: &str| !ours([(name.to_owned(), id)]).is_empty();
        for name in [
            "main",
            "trust",
            "admitted",
            "fresh",
            "approvals/dev/web-1/bob",
        ] {
            assert!(look(&format!("refs/heads/{name}")), "{name}");
        }
        for name in [
            "refs/heads/topic",
            "refs/heads/approvals/dev/web",
            "refs/heads/approvals/dev/web/bob/x",
            "refs/heads/approvals/dev/web/bob:refs",
            "refs/heads/approvals/dev/web/*",
            "refs/heads/approvals/../writ/trust",
            "refs/writ/trust",
            "refs/tags/main",
        ] {
            assert!(!look(name), "{name}");
        }
    }
}
