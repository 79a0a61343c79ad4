//! Steps 1 and 4 to 8 for an agent, and the walk of `main` (step 10) that its releases stand on.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::digest::ObjectId;
use crate::durable::Extra;
use crate::floor::{Floor, Lineage};
use crate::git::{Git, RefUpdate};
use crate::manifest::{Hold, Manifest};
use crate::name::{EnvironmentName, ServiceName};
use crate::tree::Snapshot;
use crate::{Code, Refusal};

use super::admissions::Admission;
use super::chain::Chain;
use super::freshness::{self, Validity};
use super::log::{self, Entry, Mark, Position};
use super::main_walk::MainLog;

/// How many manifests may pass before the floor is made durable.
const BATCH: usize = 256;

/// The tips of the three branches that a host fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tips {
    /// Of `trust`.
    pub trust: ObjectId,
    /// Of `admitted`.
    pub admitted: ObjectId,
    /// Of `fresh`.
    pub fresh: ObjectId,
}

/// Where in a mirror the tips lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `refs/incoming/*`: fetched, not verified.
    Incoming,
    /// `refs/verified/*`: what passed.
    Verified,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incoming => "refs/incoming",
            Self::Verified => "refs/verified",
        })
    }
}

impl Tips {
    const BRANCHES: [&str; 3] = ["trust", "admitted", "fresh"];

    /// 2. What to fetch: each branch of the remote into `refs/incoming`, for [`crate::git::fetch::Request::refs`].
    pub fn refs() -> Vec<(String, String)> {
        let pair = |name: &&str| {
            (
                format!("refs/heads/{name}"),
                format!("{}/{name}", Stage::Incoming),
            )
        };
        Self::BRANCHES.iter().map(pair).collect()
    }

    /// The same without `trust`, for a host that goes on with the trust file that it has verified.
    pub fn refs_without_trust() -> Vec<(String, String)> {
        let mut refs = Self::refs();
        refs.retain(|(name, _)| name != "refs/heads/trust");
        refs
    }

    /// What was fetched of `admitted` and `fresh`, with the trust files that were verified before.
    ///
    /// # Errors
    /// `REF_MISSING`.
    pub fn with_verified_trust(git: &Git) -> Result<Self, Refusal> {
        let incoming = |name: &str| git.require(&format!("{}/{name}", Stage::Incoming));
        Ok(Self {
            trust: git.require(&format!("{}/trust", Stage::Verified))?,
            admitted: incoming("admitted")?,
            fresh: incoming("fresh")?,
        })
    }

    /// Reads the tips of a mirror.
    ///
    /// # Errors
    /// `REF_MISSING`.
    pub fn read(git: &Git, stage: Stage) -> Result<Self, Refusal> {
        let [trust, admitted, fresh] =
            Self::BRANCHES.map(|name| git.require(&format!("{stage}/{name}")));
        Ok(Self {
            trust: trust?,
            admitted: admitted?,
            fresh: fresh?,
        })
    }

    /// Moves `refs/verified/*` here, after [`intake`] has passed.
    pub fn keep(&self, git: &Git) -> Result<(), Refusal> {
        let moved = [self.trust, self.admitted, self.fresh];
        let mut updates = Vec::new();
        for (name, new) in Self::BRANCHES.iter().zip(moved) {
            let name = format!("{}/{name}", Stage::Verified);
            let expected = git.resolve(&name)?;
            if expected != Some(new) {
                updates.push(RefUpdate {
                    name,
                    expected,
                    new: Some(new),
                });
            }
        }
        if updates.is_empty() {
            return Ok(());
        }
        git.transaction(&updates)
    }
}

/// What a remote shows, as far as all hosts share it: verified up to step 8.
#[derive(Clone, Debug)]
pub struct Intake {
    pub(super) chain: Chain,
    tip: Manifest,
    /// The entries that this intake read, newest first, and the one below them.
    pub(super) newer: Vec<Arc<Admission>>,
    pub(super) older: Option<Entry>,
    pub(super) admitted: Snapshot,
    /// The first manifest whose author is not, or does not stand on, well judged commits, and why.
    pub(super) unjudged: Option<(u64, Refusal)>,
    fresh_until: Timestamp,
    /// The host's environment, and the sequence up to which its rules were verified before.
    rules: (EnvironmentName, Option<u64>),
}

impl Intake {
    /// The trust files.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The newest manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.tip
    }

    /// The admitted tree.
    pub fn admitted(&self) -> &Snapshot {
        &self.admitted
    }

    /// What a host whose [`super::releases`] were told from this may remember of the rules, for the next intake:
    /// [`Floor::advance_rules`].
    pub fn lineage(&self) -> Lineage {
        Lineage {
            trust: self.chain.newest().reference(),
            sequence: self.tip.sequence,
            extra: Extra::default(),
        }
    }

    /// The sequence up to which the rules of `environment` were verified before.
    pub(super) fn rules_verified(&self, environment: &EnvironmentName) -> Option<u64> {
        let (of, sequence) = &self.rules;
        sequence.filter(|_| of == environment)
    }

    /// Why some commit of `main` did not pass; releases that stand on it are refused with it.
    pub fn unjudged(&self) -> Option<&Refusal> {
        self.unjudged.as_ref().map(|(_, refusal)| refusal)
    }

    /// 8. Whether the newest manifest still counts as the newest at `now`.
    pub fn validity(&self, now: Timestamp) -> Validity {
        if now < self.fresh_until {
            Validity::Fresh {
                until: self.fresh_until,
            }
        } else {
            Validity::Stale {
                since: self.fresh_until,
            }
        }
    }

    /// The hold that the newest manifest has on a service.
    pub fn hold(&self, environment: &EnvironmentName, service: &ServiceName) -> Option<&Hold> {
        let mut holds = self.tip.holds.iter();
        holds.find(|hold| hold.holds(environment, service))
    }
}

/// Verifies what was fetched, raises `floor` to it and makes that durable with `persist` before returning.
///
/// The floor is raised also when a refusal is returned: up to the last manifest that passed. Tips that passed at the
/// last pass need no second intake: the one at hand tells [`Intake::validity`] at any time.
///
/// # Errors
/// A refusal of steps 1 to 8, which ends the intake from this remote. What is wrong with `main` is not among them: it
/// refuses releases only, see [`Intake::unjudged`].
pub fn intake(
    git: &Git,
    tips: &Tips,
    floor: &mut Floor,
    now: Timestamp,
    persist: &mut dyn FnMut(&Floor) -> Result<(), Refusal>,
) -> Result<Intake, Refusal> {
    // 1. (The floor was loaded, which checks that the state is safe.) The clock is not behind what was seen signed.
    floor.check_clock(now)?;
    // 2. and 3. are the fetch worker's and the door's.
    // 4. Trust, each version made durable, also those before one that is refused: what they ended stays ended, whatever is
    // shown next.
    let (chain, refused) = Chain::read_verified(git, &tips.trust, &floor.domain)?;
    if let Err(refusal) = chain.check_floor(&floor.trust) {
        return Err(refused.unwrap_or(refusal));
    }
    for trust in chain.versions() {
        if trust.version > floor.trust.version {
            floor.advance_trust(trust.reference())?;
            persist(floor)?;
        }
    }
    if let Some(refusal) = refused {
        return Err(refusal);
    }
    chain.newest().check_expiry(now)?;
    // 5. The log, from the floor.
    let mark = Mark::new(floor.sequence, floor.manifest, chain.newest());
    let (entry, newer) = log::since(git, &chain, &tips.admitted, &mark)?;
    let mut main = MainLog::before(git, &chain, entry.as_ref(), &mark, floor.main.as_ref())?;
    let mut position = Position::at(git, entry.clone(), &chain, &mark)?;
    // 6. Each new manifest; 7. the floor, in batches and at the end, also when one is refused.
    let mut refused = None;
    let mut read = Vec::new();
    let is_new = !newer.is_empty();
    for (count, commit) in newer.into_iter().enumerate() {
        let difference = match position.step(git, &chain, commit, now) {
            Ok(difference) => difference,
            Err(refusal) => {
                refused = Some(refusal);
                break;
            }
        };
        if let Some(entry) = &position.last {
            floor.advance(&entry.link())?;
            main.push(&entry.manifest);
            // 10., now that what it reads was just read; what comes of it counts after step 8.
            main.advance(git, &chain, Some(&difference));
            read.push((entry.manifest.clone(), entry.tree));
        }
        if (count + 1).is_multiple_of(BATCH) {
            persist(floor)?;
        }
    }
    if is_new {
        persist(floor)?;
    }
    if let Some(refusal) = refused {
        return Err(refusal);
    }
    let tip = position.last.as_ref().ok_or_else(|| {
        let detail = "the branch 'admitted' holds no admission yet";
        Refusal::new(Code::RefMissing, detail)
    })?;
    let tip = tip.manifest.clone();
    // 8. Freshness.
    let proof = freshness::check(git, &tips.fresh, &floor.domain, chain.newest(), &tip, now)?;
    if proof.issued > floor.time {
        floor.advance_time(proof.issued);
        persist(floor)?;
    }
    // 10. Every commit of `main` since the floor's; if one does not pass, that is the releases' concern.
    let judged = main.judge(git, &chain);
    let rules = floor.rules.as_ref();
    let rules = rules.filter(|rules| rules.counts(chain.newest()));
    let rules = rules.map(|rules| rules.sequence);
    if let Some(author) = judged.author {
        floor.advance_main(author);
        persist(floor)?;
    }
    Ok(Intake {
        chain,
        tip,
        newer: Admission::newest_first(read),
        older: entry,
        admitted: position.into_snapshot(),
        unjudged: judged.refused,
        fresh_until: proof.until,
        rules: (floor.environment.clone(), rules),
    })
}
