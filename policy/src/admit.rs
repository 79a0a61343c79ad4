//! One pass of policy over the repository it serves, or its mirror of a hosted one: authenticate → judge → render → sign
//! → append.
//!
//! A pass is idempotent. What a crash leaves half done is completed by the next one: a manifest is written down before
//! it is signed, signing is deterministic, and everything else of an admission follows from its manifest and `main`.
//! The numbers are the steps of what policy does in the specification; [`crate::append`] holds the last of them.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use state::floor::SKEW;
use state::key::SigningKey;
use state::manifest::{Change, MAX_CHANGES, Manifest};
use state::{Code, Refusal};

use crate::branch::Branch;
use crate::candidate;
use crate::collect;
use crate::fresh;
use crate::hold::{self, Edit};
use crate::hosted::Moved;
use crate::hosted::way_out;
use crate::judge::{Judged, judge};
use crate::log::{self, Log};
use crate::repository::Repository;
use crate::require::batch;
use crate::rule::Verdict;
use crate::settings::Folder;
use crate::way_out::{PassedOver, WayOut};
use crate::weight;

/// How often a pass begins again after somebody else moved a branch under it: another server may win each time.
const ATTEMPTS: u32 = 20;

/// What a pass did and what it left.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// The manifests that it appended, in order.
    pub admitted: Vec<Manifest>,
    /// The changes that it did not admit, with their verdicts.
    pub left: Vec<Judged>,
    /// Why `main` could not be judged.
    pub refused: Vec<Refusal>,
    /// What a person can do about that.
    pub way_out: Option<WayOut>,
    /// What is to be known about the repository's size, if new hosts will soon refuse it.
    pub heavy: Option<String>,
    /// Branches of a remote that were left alone, and the last good state of them taken.
    pub passed_over: Vec<PassedOver>,
    /// Why what lay on top of the last admission was replaced.
    pub replaced: Option<Refusal>,
    /// How long the statement of freshness lasts before it is renewed.
    pub renewal: SignedDuration,
}

impl Pass {
    /// When the next pass has something to do by itself: a change that waits for a time, or freshness.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let renewal = now.saturating_add(self.renewal).unwrap_or(Timestamp::MAX);
        let waits = self.left.iter().filter_map(|one| match &one.verdict {
            Verdict::Wait { until, .. } => *until,
            _ => None,
        });
        waits.fold(renewal, Timestamp::min)
    }
}

/// Policy at one repository, with its key.
pub struct Admitter<'a> {
    /// The repository that is served.
    pub repository: &'a Repository,
    /// Its folder `writ`.
    pub folder: &'a Folder,
    /// The policy key.
    pub key: &'a SigningKey,
}

/// What came of looking for news.
#[derive(Debug)]
pub enum Looked {
    /// Authors and root holders have none: no pass was made.
    Idle(Moved),
    /// A pass was made.
    Passed(Box<Pass>),
}

/// Whether a step left something to do.
enum Step {
    Again,
    Done,
}

impl Admitter<'_> {
    /// Does one pass at the time `now`: completes what is half done, admits what may be admitted, renews `fresh`.
    ///
    /// # Errors
    /// What keeps policy from signing anything. What is wrong with `main` is part of the result.
    pub fn pass(&self, now: Timestamp) -> Result<Pass, Refusal> {
        self.pass_with(None, now)
    }

    /// Does one pass if authors or root holders moved a branch since the last time that was looked at.
    ///
    /// # Errors
    /// Those of [`Admitter::pass`]; then a pass is due, whether they did or not.
    pub fn look(&self, now: Timestamp) -> Result<Looked, Refusal> {
        let _lock = self.folder.lock()?;
        self.repository.recover()?;
        match self.repository.refresh()? {
            Moved::Theirs => self
                .steps(None, now)
                .map(|pass| Looked::Passed(Box::new(pass))),
            moved => Ok(Looked::Idle(moved)),
        }
    }

    /// Does one pass, and holds something in it or lifts a hold, also while what is new on `main` is refused.
    ///
    /// # Errors
    /// Those of [`Admitter::pass`].
    pub fn hold(&self, edit: &Edit, now: Timestamp) -> Result<Pass, Refusal> {
        self.pass_with(Some(edit), now)
    }

    fn pass_with(&self, edit: Option<&Edit>, now: Timestamp) -> Result<Pass, Refusal> {
        let _lock = self.folder.lock()?;
        self.repository.recover()?;
        self.repository.refresh()?;
        self.steps(edit, now)
    }

    /// Goes on until there is nothing more to append. A pass that began at `now` may take a while.
    fn steps(&self, edit: Option<&Edit>, now: Timestamp) -> Result<Pass, Refusal> {
        let begun = Instant::now();
        let mut pass = Pass::default();
        let mut lost = 0;
        loop {
            let now = now.saturating_add(begun.elapsed()).unwrap_or(now);
            // Statements carry whole seconds; judging by the same makes verdicts replayable.
            let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
            match self.step(edit, now, &mut pass) {
                Ok(Step::Again) => {}
                Ok(Step::Done) => {
                    if !pass.admitted.is_empty() {
                        // What was just appended is verified like anything else, here and not at the next push. It
                        // is admitted, whatever becomes of the cache.
                        let _ = log::read(self.repository, now).and_then(|log| self.remember(&log));
                    }
                    self.repository.tidy();
                    pass.heavy = weight::warning(self.repository.git.path());
                    return Ok(pass);
                }
                Err(refusal) if refusal.code == Code::LostRace && lost < ATTEMPTS => {
                    lost += 1;
                    self.repository.look_again(lost)?;
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Appends one manifest, or finds that there is nothing to append and renews `fresh`.
    fn step(&self, edit: Option<&Edit>, now: Timestamp, pass: &mut Pass) -> Result<Step, Refusal> {
        let git = &self.repository.git;
        pass.refused.clear();
        pass.left.clear();
        pass.way_out = None;
        pass.passed_over.clear();
        // 1. Its own log must verify, and its key be listed.
        let log = log::read(self.repository, now)?;
        self.remember(&log)?;
        pass.passed_over.extend(log.passed_over().cloned());
        if let Some(upstream) = &self.repository.upstream {
            pass.passed_over.extend(upstream.passed_over(git)?);
        }
        self.check_key(&log)?;
        let now = not_before(&log, now)?;
        pass.renewal = fresh::renewal(log.trust());
        if let Some(junk) = log.verified().junk() {
            pass.replaced = Some(junk.clone());
        }
        // 5. What was written down for the next sequence is appended before anything is judged.
        let saved = self.saved(&log)?;
        self.check_witness(&log, saved.as_ref())?;
        if let Some(manifest) = saved {
            let author = candidate::of_commit(git, &log, &manifest.author.commit);
            let appended = author.map_err(first).and_then(|author| {
                self.append(&log, &manifest, &author, &self.saved_evidence()?, now)
            });
            appended.map_err(|refusal| self.not_completed(refusal))?;
            pass.admitted.push(manifest);
            return Ok(Step::Again);
        }
        // 2. The candidate is the tip of `main`; every commit since the last judged one is authenticated.
        let tip = self.repository.tip(Branch::Main)?;
        let authenticated = match tip {
            Some(tip) => candidate::authenticated(git, &log, &tip),
            // Before the first push.
            None if log.verified().last().is_none() => return self.renew(&log, now, pass),
            None => Err(vec![self.repository.missing(Branch::Main)]),
        };
        let author = match authenticated {
            Ok(author) => author,
            Err(refusals) => {
                pass.refused = refusals;
                pass.way_out = way_out::find(git, &log, tip);
                let last = log.verified().last().filter(|_| edit.is_some());
                let Some(last) = last.map(|entry| entry.manifest.author.commit) else {
                    return self.renew(&log, now, pass);
                };
                candidate::of_commit(git, &log, &last).map_err(first)?
            }
        };
        // 3. and 4. What would change, and the verdict on each change.
        let evidence = collect::collect(self.repository, &log, &author, edit, now)?;
        let judged = judge(
            log.admitted(),
            &author.rendered,
            &evidence,
            log.history(),
            now,
        );
        let (admit, left): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|one| one.verdict.is_admit());
        pass.left = left;
        let all: Vec<_> = admit.into_iter().map(|one| one.change).collect();
        let changes = batch(all.clone(), log.admitted(), &author.rendered, MAX_CHANGES);
        if changes.is_empty() {
            pass.left.extend(all.iter().cloned().map(too_many));
        }
        let holds_differ = evidence.held != log.holds() || hold::differs(git, &log, &author)?;
        if changes.is_empty() && !holds_differ {
            return self.renew(&log, now, pass);
        }
        // 5. and 6. What one manifest does not hold, or what waited for it, follows in the next.
        let all = (changes.is_empty() || changes.len() == all.len())
            && !pass.left.iter().any(waits_for_another);
        let manifest = Self::compose(&log, &author, changes, &evidence, now)?;
        let evidence = evidence.files(&manifest.changes);
        self.append(&log, &manifest, &author, &evidence, now)?;
        pass.admitted.push(manifest);
        Ok(if all { Step::Done } else { Step::Again })
    }

    /// 7. Renews `fresh`, and takes junk off `admitted`.
    fn renew(&self, log: &Log, now: Timestamp, pass: &mut Pass) -> Result<Step, Refusal> {
        let git = &self.repository.git;
        let mut updates = Vec::new();
        if log.verified().junk().is_some() {
            let last = match log.verified().last() {
                Some(entry) => entry.commit,
                None => self.root(now)?,
            };
            updates.push(Self::update(Branch::Admitted, log.tip(), last));
        }
        let fresh = self.repository.tip(Branch::Fresh)?;
        let rest = fresh.and_then(|commit| fresh::rest(git, log, &commit, now));
        if let Some(rest) = rest {
            pass.renewal = rest;
        } else if let Some(newest) = fresh::subject(log) {
            let statement = fresh::write(git, self.key, log, &newest, now)?;
            updates.push(Self::update(Branch::Fresh, fresh, statement));
        }
        if !updates.is_empty() {
            self.repository.transaction(&updates)?;
        }
        Ok(Step::Done)
    }

    /// Writes down how far the log verified, if that is news, and keeps it where no remote can take it away.
    fn remember(&self, log: &Log) -> Result<(), Refusal> {
        let last = log.verified().last();
        let last = last.map(|entry| (Branch::Admitted, entry.commit));
        let kept = last.into_iter().chain([(Branch::Trust, log.trust_tip())]);
        self.repository.keep(&kept.collect::<Vec<_>>())?;
        match log.known() {
            Some(known) if log.verified().began_at() != Some(known.checkpoint.commit) => {
                self.folder.save_checkpoint(&known)
            }
            _ => Ok(()),
        }
    }

    fn check_key(&self, log: &Log) -> Result<(), Refusal> {
        let (key, trust) = (self.key.public(), log.trust());
        if trust.policy.keys.contains(key) {
            return Ok(());
        }
        let detail = format!(
            "key {} is not in trust version {}",
            key.fingerprint(),
            trust.version
        );
        Err(Refusal::new(Code::PolicyKeyUnlisted, detail))
    }
}

/// Says whether a change waits for another one, which may just have been admitted.
fn waits_for_another(judged: &Judged) -> bool {
    matches!(&judged.verdict, Verdict::Wait { why, .. } if why.code == Code::NeedsUnmet)
}

/// What becomes of a change when no manifest could hold all that it requires.
fn too_many(change: Change) -> Judged {
    let why = format!("more than {MAX_CHANGES} changes require each other");
    let verdict = Verdict::wait_for(Code::NeedsUnmet, why);
    Judged { change, verdict }
}

/// The time to judge by: `now`, but not before the last admission, which another server, or a pass that went first,
/// may have made a moment after `now` was taken.
///
/// # Errors
/// `CLOCK_BEHIND` if that is further off than clocks may be apart.
fn not_before(log: &Log, now: Timestamp) -> Result<Timestamp, Refusal> {
    let last = log.link().issued;
    if last.duration_since(now) <= SKEW {
        return Ok(now.max(last));
    }
    let detail = format!("it is {now}, the last admission was at {last}");
    Err(Refusal::new(Code::ClockBehind, detail))
}

/// The first of several problems: none of them can be new in what was judged before.
fn first(refusals: Vec<Refusal>) -> Refusal {
    let none = || Refusal::new(Code::PolicyStateBad, "refused without a reason");
    refusals.into_iter().next().unwrap_or_else(none)
}
