//! The log of admissions as policy uses it: verified by the agents' own steps, with what timing rules remember of it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use state::digest::{Domain, ObjectId};
use state::durable::Format;
use state::git::Git;
use state::manifest::{Hold, Link, Manifest, Subject};
use state::release::Release;
use state::render::Rendered;
use state::tree::{self, File, Limits, Snapshot};
use state::trust::Trust;
use state::verify::{self, Chain, Checkpoint, Entry};
use state::{Code, Refusal};

use crate::admitted;
use crate::branch::Branch;
use crate::checkpoint::Known;
use crate::history::History;
use crate::repository::{Place, Repository};
use crate::settings::Folder;
use crate::way_out::{PassedOver, WayOut};

/// A verified log.
pub struct Log {
    verified: verify::Log,
    tip: Option<ObjectId>,
    trust_tip: ObjectId,
    passed_over: Option<PassedOver>,
    admitted: Rendered,
    history: History,
}

/// Verifies the trust files of `repository`. The first of them says which fleet it is.
///
/// # Errors
/// `REF_MISSING`, and those of step 4. A remote's files that do not count, or are gone, take nothing from those that did.
pub fn trust(repository: &Repository) -> Result<Chain, Refusal> {
    find_trust(repository).map(|trust| trust.chain)
}

/// The trust files that count.
struct Found {
    chain: Chain,
    /// The commit that they were read from.
    tip: ObjectId,
    /// What else a remote shows, and why that does not count.
    passed_over: Option<PassedOver>,
}

fn find_trust(repository: &Repository) -> Result<Found, Refusal> {
    let git = &repository.git;
    let Some(kept) = repository.kept(Branch::Trust)? else {
        let tip = repository.require(Branch::Trust)?;
        let chain = Chain::read(git, &tip, &verify::domain_of(git, &tip)?)?;
        return Ok(Found {
            chain,
            tip,
            passed_over: None,
        });
    };
    let accepted = Chain::read(git, &kept, &verify::domain_of(git, &kept)?)?;
    // No hook sees to it that a remote's branch moves as it should.
    let shown = repository.tip(Branch::Trust)?;
    let moved = repository.require(Branch::Trust).and_then(|tip| {
        if tip == kept {
            return Ok(accepted.clone());
        }
        let chain = Chain::read(git, &tip, accepted.domain())?;
        chain.check_floor(&accepted.newest().reference())?;
        verify::check_trust_move(git, Some(&kept), &tip)?;
        Ok(chain)
    });
    match (moved, shown) {
        (Ok(chain), Some(tip)) => Ok(Found {
            chain,
            tip,
            passed_over: None,
        }),
        // Root contradicts itself.
        (Err(refusal), _) if refusal.code == Code::TrustFork => Err(refusal),
        (Err(refusal), bad) => {
            let way_out = WayOut::SetBack {
                name: Branch::Trust.full_name(),
                good: Some(kept),
                bad,
            };
            Ok(Found {
                chain: accepted,
                tip: kept,
                passed_over: Some(PassedOver { refusal, way_out }),
            })
        }
        (Ok(_), None) => Err(repository.missing(Branch::Trust)),
    }
}

/// Verifies the log of `repository` at the time `now`: all of it, or what is new since the last pass wrote down how far
/// it verified.
///
/// # Errors
/// `POLICY_STATE_BAD`, with what an agent would refuse; those of the trust files.
pub fn read(repository: &Repository, now: Timestamp) -> Result<Log, Refusal> {
    let known = match repository.place {
        Place::Served => Folder::of(&repository.folder)
            .checkpoint(&repository.folder)
            .or_else(|| from_kept(repository, now)),
        Place::Clone => None,
    };
    read_from(repository, now, known)
}

/// What the lost checkpoint of a mirror would say: what was admitted is kept there, whatever the remote shows now.
fn from_kept(repository: &Repository, now: Timestamp) -> Option<Known> {
    let kept = repository.kept(Branch::Admitted).ok()??;
    let shown = repository.tip(Branch::Admitted).ok()?;
    if shown == Some(kept) {
        return None;
    }
    read_at(repository, Some(kept), now, None).ok()?.known()
}

/// The same, where it is known how far the log was verified before; the result does not depend on that, unless
/// `admitted` lost an entry.
pub(crate) fn read_from(
    repository: &Repository,
    now: Timestamp,
    known: Option<Known>,
) -> Result<Log, Refusal> {
    let found = read_once(repository, now, known);
    let is_whole = matches!(&found, Ok(log) if log.verified.junk().is_none());
    if is_whole || repository.place != Place::Clone {
        return found;
    }
    // A clone may have fetched or pushed one of the branches later than the other.
    match repository.fetch(&[Branch::Trust, Branch::Admitted]) {
        Ok(true) => read_once(repository, now, None),
        Ok(false) => found,
        Err(why) => found.map_err(|refusal| {
            let detail = format!("{}; {why:#}", refusal.detail);
            Refusal::new(refusal.code, detail)
        }),
    }
}

fn read_once(
    repository: &Repository,
    now: Timestamp,
    known: Option<Known>,
) -> Result<Log, Refusal> {
    // Before the trust files, which are then at least as new as what the log names.
    let tip = repository.tip(Branch::Admitted)?;
    read_at(repository, tip, now, known)
}

/// The same for a log with the tip `tip`.
fn read_at(
    repository: &Repository,
    tip: Option<ObjectId>,
    now: Timestamp,
    known: Option<Known>,
) -> Result<Log, Refusal> {
    let git = &repository.git;
    let Found {
        chain,
        tip: trust_tip,
        passed_over,
    } = find_trust(repository)?;
    chain.newest().check_expiry(now)?;
    let checkpoint = known.as_ref().map(|known| &known.checkpoint);
    let verified = verify(git, chain, tip.as_ref(), now, checkpoint)?;
    if let Some(refusal) = verified.junk() {
        check_junk(git, &verified, tip, refusal)?;
    }
    Ok(Log {
        admitted: admitted::parse(&verified.admitted().files).map_err(bad)?,
        history: history(git, &verified, known).map_err(bad)?,
        verified,
        tip,
        trust_tip,
        passed_over,
    })
}

/// Verifies the log with the tip `tip`; if that has lost the entry `known`, the log is what leads to that entry, and
/// what `admitted` shows is junk.
fn verify(
    git: &Git,
    chain: Chain,
    tip: Option<&ObjectId>,
    now: Timestamp,
    known: Option<&Checkpoint>,
) -> Result<verify::Log, Refusal> {
    let known = known.filter(|known| !known.is_before_anchor(&chain));
    let found = verify::log_since(git, chain.clone(), tip, now, known);
    let Some(known) = known else {
        return found.map_err(bad);
    };
    let why = match &found {
        Ok(log) if log.began_at().is_some() || holds(git, log, known) => return found.map_err(bad),
        Ok(log) => lost(log, known),
        Err(refusal) => refusal.clone(),
    };
    let before = verify::log_since(git, chain, Some(&known.commit), now, Some(known)).ok();
    let before = before.filter(|log| log.checkpoint().is_some_and(|at| at.commit == known.commit));
    match before {
        Some(before) => Ok(before.with_junk(why)),
        None => found.map_err(bad),
    }
}

/// Says whether `log` goes through the entry `known`.
fn holds(git: &Git, log: &verify::Log, known: &Checkpoint) -> bool {
    let mut entries = Backwards::new(git, log);
    entries.any(|entry| entry.is_ok_and(|entry| entry.commit == known.commit))
}

/// Says that `admitted` ends somewhere else than it did.
fn lost(log: &verify::Log, known: &Checkpoint) -> Refusal {
    let detail = format!(
        "manifest {} was on 'admitted', which now ends with {}",
        known.sequence,
        log.link().sequence
    );
    Refusal::new(Code::LogRollback, detail)
}

/// Verifies the log that a clone has fetched; `None` in a clone without `origin`, where nothing can be admitted yet.
///
/// # Errors
/// `REF_MISSING` with the fetch that is missing, and those of [`read`].
pub fn fetched(repository: &Repository, now: Timestamp) -> anyhow::Result<Option<Log>> {
    match repository.tip(Branch::Admitted)? {
        Some(_) => Ok(Some(read(repository, now)?)),
        None if repository.has_origin()? => {
            repository.require(Branch::Trust)?;
            Err(repository.missing(Branch::Admitted).into())
        }
        None => Ok(None),
    }
}

impl Log {
    /// The log as the steps of verification left it.
    pub fn verified(&self) -> &verify::Log {
        &self.verified
    }

    /// The fleet.
    pub fn domain(&self) -> &Domain {
        self.verified.chain().domain()
    }

    /// The trust file in force.
    pub fn trust(&self) -> &Trust {
        self.verified.chain().newest()
    }

    /// All admissions, the newest one first.
    pub fn newest_first<'a>(&self, git: &'a Git) -> Backwards<'a> {
        Backwards::new(git, &self.verified)
    }

    /// All admissions, the first one first.
    ///
    /// # Errors
    /// Those of [`Entry::previous`].
    pub fn entries(&self, git: &Git) -> Result<Vec<Entry>, Refusal> {
        let mut entries: Vec<_> = self.newest_first(git).collect::<Result<_, _>>()?;
        entries.reverse();
        Ok(entries)
    }

    /// How far the log is verified, to be remembered; `None` if there is nothing to remember.
    pub fn known(&self) -> Option<Known> {
        let checkpoint = self.verified.checkpoint()?;
        let history = self.history.clone();
        Some(Known {
            format: Format::current(),
            checkpoint,
            history,
        })
    }

    /// What `admitted` points at: the last entry's commit, or junk on top of it.
    pub fn tip(&self) -> Option<ObjectId> {
        self.tip
    }

    /// What a remote's `trust` shows that does not count.
    pub(crate) fn passed_over(&self) -> Option<&PassedOver> {
        self.passed_over.as_ref()
    }

    /// The commit of `trust` by which it was verified.
    pub(crate) fn trust_tip(&self) -> ObjectId {
        self.trust_tip
    }

    /// What the next manifest follows.
    pub fn link(&self) -> Link {
        self.verified.link()
    }

    /// The admitted tree.
    pub fn snapshot(&self) -> &Snapshot {
        self.verified.admitted()
    }

    /// What is admitted.
    pub fn admitted(&self) -> &Rendered {
        &self.admitted
    }

    /// All holds in force: those of the newest manifest.
    pub fn holds(&self) -> &[Hold] {
        let last = self.verified.last();
        last.map_or(&[], |entry| &entry.manifest.holds)
    }

    /// When what was admitted.
    pub fn history(&self) -> &History {
        &self.history
    }
}

/// What is wrong with the log; one that is newer than this program is not.
fn bad(refusal: Refusal) -> Refusal {
    match refusal.code.is_newer() {
        true => refusal,
        false => Refusal::new(Code::PolicyStateBad, refusal.to_string()),
    }
}

/// The entries of a verified log, the newest one first, by the hashes that they name.
pub struct Backwards<'a> {
    git: &'a Git,
    next: Option<Result<Entry, Refusal>>,
}

impl<'a> Backwards<'a> {
    fn new(git: &'a Git, log: &verify::Log) -> Self {
        let next = log.last().cloned().map(Ok);
        Self { git, next }
    }
}

impl Iterator for Backwards<'_> {
    type Item = Result<Entry, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.next.take()?;
        if let Ok(entry) = &entry {
            self.next = entry.previous(self.git).transpose();
        }
        Some(entry)
    }
}

/// Checks that nothing that `admitted` shows beside the log was signed by a policy key: such a statement is never thrown
/// away, but for what an anchor tells to.
///
/// # Errors
/// `POLICY_STATE_BAD`; `CLOCK_BEHIND` if the statement is right and only its time has not come, `MANIFEST_NEWER` if another
/// policy server is newer than this one.
fn check_junk(
    git: &Git,
    log: &verify::Log,
    tip: Option<ObjectId>,
    why: &Refusal,
) -> Result<(), Refusal> {
    let last = log.last().map(|entry| entry.commit);
    let mut entries: BTreeSet<ObjectId> = last.into_iter().collect();
    let mut next = tip.filter(|tip| Some(*tip) != last);
    // What does not stand on the last entry may stand on one before it.
    if let Some(tip) = next
        && git.first_parents(&tip, last.as_ref()).is_err()
    {
        for entry in Backwards::new(git, log) {
            entries.insert(entry.map_err(bad)?.commit);
        }
    }
    while let Some(id) = next.filter(|id| !entries.contains(id)) {
        if is_signed(git, &id, log) {
            return Err(match why.code {
                Code::IssuedInFuture => Refusal::new(Code::ClockBehind, &why.detail),
                _ => bad(why.clone()),
            });
        }
        // Junk may end in what is no commit at all.
        next = git.parents(&id).unwrap_or_default().first().copied();
    }
    Ok(())
}

fn is_signed(git: &Git, commit: &ObjectId, log: &verify::Log) -> bool {
    let sequence = match Entry::read(git, commit) {
        Ok(entry) => Some(entry.manifest.sequence),
        // Who cannot read it cannot know that it does not follow.
        Err(refusal) if refusal.code == Code::ManifestNewer => None,
        Err(_) => return false,
    };
    if log.is_at_anchor() {
        // Root has said that the log goes on with another sequence, and by which keys.
        let follows = sequence.is_none_or(|sequence| sequence > log.link().sequence);
        return follows && verify::is_signed(git, commit, log.chain().newest());
    }
    let mut versions = log.chain().versions();
    versions.any(|trust| verify::is_signed(git, commit, trust))
}

/// What timing rules remember of the entries of `log`, of which those up to `known` were looked at before.
fn history(git: &Git, log: &verify::Log, known: Option<Known>) -> Result<History, Refusal> {
    let known = known.filter(|known| log.began_at() == Some(known.checkpoint.commit));
    let (until, mut history) = match known {
        Some(known) => (Some(known.checkpoint.commit), known.history),
        None => (None, History::default()),
    };
    let mut entries = Vec::new();
    let mut before = None;
    for entry in Backwards::new(git, log) {
        let entry = entry?;
        if Some(entry.commit) == until {
            before = Some(entry);
            break;
        }
        entries.push(entry);
    }
    let limits = &log.chain().newest().limits;
    for entry in entries.iter().rev() {
        remember(git, &mut history, before.as_ref(), entry, limits)?;
        before = Some(entry.clone());
    }
    Ok(history)
}

/// Notes `entry`, which follows `before`, in `history`.
pub(crate) fn remember(
    git: &Git,
    history: &mut History,
    before: Option<&Entry>,
    entry: &Entry,
    limits: &Limits,
) -> Result<(), Refusal> {
    let before = before.map(|entry| &entry.tree);
    let files = tree::changes(git, before, &entry.tree, limits)?;
    record(history, &entry.manifest, &files)
}

fn record(
    history: &mut History,
    manifest: &Manifest,
    files: &[tree::Change],
) -> Result<(), Refusal> {
    for change in &manifest.changes {
        let path = state::admitted::path(&change.environment, &change.subject);
        let at = files.binary_search_by(|file| file.path.cmp(&path)).ok();
        let file = at.and_then(|at| files[at].after.as_ref().or(files[at].before.as_ref()));
        let source = file.map(|file| source(change, file)).transpose()?.flatten();
        history.record(
            &change.environment,
            &change.subject,
            source.as_deref(),
            manifest.issued,
        );
    }
    Ok(())
}

/// The source repository of the release in `file`; `None` for rules. One that cannot be read is not passed over: its
/// repository's rate would be forgotten.
fn source(change: &state::manifest::Change, file: &File) -> Result<Option<String>, Refusal> {
    let Subject::Service(service) = &change.subject else {
        return Ok(None);
    };
    let release = Release::from_yaml(change.environment.clone(), service.clone(), &file.bytes)?;
    Ok(Some(release.spec.source.repository))
}
