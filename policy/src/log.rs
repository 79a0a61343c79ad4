//! The log of admissions as policy uses it: verified by the agents' own steps, with what timing rules remember of it.

use jiff::Timestamp;
use state::digest::{Domain, ObjectId};
use state::git::{Git, Kind};
use state::manifest::{Hold, Link, Manifest, Subject};
use state::release::Release;
use state::render::Rendered;
use state::tree::{self, File, Files, Limits, Objects as _, Snapshot};
use state::trust::Trust;
use state::unit::Bytes;
use state::verify::{self, Chain, Entry};
use state::{Code, Refusal, commit};

use crate::admitted;
use crate::history::History;
use crate::repository::{Branch, Repository};

/// The bounds on the tree of a junk commit while it is looked at.
const JUNK: Limits = Limits {
    files: 20_000,
    bytes: Bytes(64 << 20),
};

/// A verified log, read to its first entry.
pub struct Log {
    verified: verify::Log,
    entries: Vec<Entry>,
    tip: Option<ObjectId>,
    admitted: Rendered,
    history: History,
}

/// Verifies the trust files of `repository`. The first of them says which fleet it is.
///
/// # Errors
/// `REF_MISSING`, and those of step 4.
pub fn trust(repository: &Repository) -> Result<Chain, Refusal> {
    let tip = repository.require(Branch::Trust)?;
    let domain = verify::domain_of(&repository.git, &tip)?;
    Chain::read(&repository.git, &tip, &domain)
}

/// Verifies the log of `repository` at the time `now`.
///
/// # Errors
/// `POLICY_STATE_BAD`, with what an agent would refuse; those of the trust files.
pub fn read(repository: &Repository, now: Timestamp) -> Result<Log, Refusal> {
    let git = &repository.git;
    // Before the trust files, which are then at least as new as what the log names.
    let tip = repository.tip(Branch::Admitted)?;
    let chain = trust(repository)?;
    chain.newest().check_expiry(now)?;
    let verified = verify::log(git, chain, tip.as_ref(), now).map_err(bad)?;
    let entries = entries(git, &verified).map_err(bad)?;
    if let (Some(refusal), Some(tip)) = (verified.junk(), &tip) {
        check_junk(git, &verified, tip, refusal)?;
    }
    Ok(Log {
        admitted: admitted::parse(&verified.admitted().files).map_err(bad)?,
        history: history(git, &entries, &verified.chain().newest().limits).map_err(bad)?,
        verified,
        entries,
        tip,
    })
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

    /// All admissions, the first one first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What `admitted` points at: the last entry's commit, or junk on top of it.
    pub fn tip(&self) -> Option<ObjectId> {
        self.tip
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

#[allow(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
fn bad(refusal: Refusal) -> Refusal {
    Refusal::new(Code::PolicyStateBad, refusal.to_string())
}

fn entries(git: &Git, log: &verify::Log) -> Result<Vec<Entry>, Refusal> {
    let mut entries = Vec::new();
    let mut next = log.last().cloned();
    while let Some(entry) = next {
        next = entry.previous(git)?;
        entries.push(entry);
    }
    entries.reverse();
    Ok(entries)
}

/// Checks that nothing on top of the last entry was signed by a policy key: such a statement is never thrown away, but
/// for what an anchor tells to.
///
/// # Errors
/// `POLICY_STATE_BAD`; `CLOCK_BEHIND` if the statement is right and only its time has not come.
fn check_junk(git: &Git, log: &verify::Log, tip: &ObjectId, why: &Refusal) -> Result<(), Refusal> {
    let until = log.last().map(|entry| entry.commit);
    let mut next = Some(*tip);
    while let Some(id) = next.filter(|id| Some(*id) != until) {
        let raw = git.object(Kind::Commit, &id, commit::MAX_BYTES)?;
        let links = commit::Links::parse(&raw)?;
        let files = tree::read(git, &links.tree, &JUNK).map(|snapshot| snapshot.files);
        if files.is_ok_and(|files| is_signed(&files, log)) {
            return Err(match why.code {
                Code::IssuedInFuture => Refusal::new(Code::ClockBehind, &why.detail),
                _ => bad(why.clone()),
            });
        }
        next = links.parents.first().copied();
    }
    Ok(())
}

fn is_signed(files: &Files, log: &verify::Log) -> bool {
    let [manifest, signature] = state::admitted::STATEMENT.map(|name| files.get(name));
    let (Some(manifest), Some(signature)) = (manifest, signature) else {
        return false;
    };
    let signed = |trust: &Trust| trust.verify_manifest(manifest, signature).is_ok();
    if log.is_at_anchor() {
        // Root has said that the log goes on with another sequence, and by which keys.
        let follows =
            Manifest::parse(manifest).is_ok_and(|manifest| manifest.sequence > log.link().sequence);
        return follows && signed(log.chain().newest());
    }
    log.chain().versions().any(signed)
}

/// What timing rules remember of `entries`.
fn history(git: &Git, entries: &[Entry], limits: &Limits) -> Result<History, Refusal> {
    let mut history = History::default();
    let mut before = None;
    for entry in entries {
        remember(git, &mut history, before, entry, limits)?;
        before = Some(entry);
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
    record(history, &entry.manifest, &files);
    Ok(())
}

fn record(history: &mut History, manifest: &Manifest, files: &[tree::Change]) {
    for change in &manifest.changes {
        let path = state::admitted::path(&change.environment, &change.subject);
        let at = files.binary_search_by(|file| file.path.cmp(&path)).ok();
        let file = at.and_then(|at| files[at].after.as_ref().or(files[at].before.as_ref()));
        let source = file.and_then(|file| source(change, file));
        history.record(
            &change.environment,
            &change.subject,
            source.as_deref(),
            manifest.issued,
        );
    }
}

/// The source repository of the release in `file`; `None` for rules.
fn source(change: &state::manifest::Change, file: &File) -> Option<String> {
    let Subject::Service(service) = &change.subject else {
        return None;
    };
    let release = Release::from_yaml(change.environment.clone(), service.clone(), &file.bytes);
    release.ok().map(|release| release.spec.source.repository)
}
