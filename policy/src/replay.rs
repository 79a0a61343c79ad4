//! Judges past admissions again: by the trust, the rules and the history in force when each was issued, from the commit
//! that it names. An honest policy reaches the same verdicts, whoever replays.
//!
//! What authors hold is read from their commit. What policy itself holds and lifts nothing in the repository asks for:
//! that is its word, which the manifest's signature makes it stand by, and it is handed on as such.

use state::git::Git;
use state::manifest::{Change, Hold, MAX_CHANGES, Manifest};
use state::tree;
use state::verify::Entry;
use state::{Code, Refusal, approval};

use crate::collect;
use crate::history::History;
use crate::hold::{self, Edit};
use crate::judge::{Judged, judge};
use crate::log::{self, Log};
use crate::require::batch;
use crate::{admitted, candidate};

/// One admission, judged again.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What was admitted.
    pub manifest: Manifest,
    /// The verdict on everything that could have been.
    pub judged: Vec<Judged>,
    /// What should have been.
    pub due: Vec<Change>,
    /// What should have been held: what the authors' commit holds, and what policy says that it holds itself.
    pub held: Vec<Hold>,
    /// What policy decided itself to hold or to lift.
    pub edits: Vec<Edit>,
}

impl Replayed {
    /// Says whether exactly what may be admitted was, and in the authors' name exactly what they hold was held.
    pub fn agrees(&self) -> bool {
        self.due == self.manifest.changes && self.held == self.manifest.holds
    }
}

/// Judges every entry of `log` again, the first one first, and hands each of those in `range` to `found`, until that
/// says that it is enough.
///
/// # Errors
/// What keeps a commit from being read and rendered.
pub fn replay(
    git: &Git,
    log: &Log,
    range: impl Fn(u64) -> bool,
    mut found: impl FnMut(Replayed) -> bool,
) -> Result<(), Refusal> {
    let mut history = History::default();
    let mut before: Option<&Entry> = None;
    let entries = log.entries(git)?;
    for entry in &entries {
        if range(entry.manifest.sequence) && !found(again(git, log, before, entry, &history)?) {
            return Ok(());
        }
        log::remember(git, &mut history, before, entry, &log.trust().limits)?;
        before = Some(entry);
    }
    Ok(())
}

fn again(
    git: &Git,
    log: &Log,
    before: Option<&Entry>,
    entry: &Entry,
    history: &History,
) -> Result<Replayed, Refusal> {
    let manifest = &entry.manifest;
    let limits = &log.verified().chain().get(&manifest.trust)?.limits;
    let files = match before {
        Some(before) => tree::read(git, &before.tree, limits)?.files,
        None => tree::Files::default(),
    };
    let author = candidate::of_admission(git, limits, manifest).map_err(|refusals| {
        let none = || Refusal::new(Code::PolicyStateBad, "refused without a reason");
        refusals.into_iter().next().unwrap_or_else(none)
    })?;
    let admitted = admitted::parse(&files)?;
    let after = tree::read(git, &entry.tree, limits)?.files;
    let mut approvals = log.verified().approvals_of(git, before, &files, manifest)?;
    let mut evidence = collect::gather(
        git,
        &mut approvals,
        &admitted,
        &author,
        manifest.issued,
        &|change| {
            let (environment, subject) = change.place();
            Ok(approval::admitted(&after, environment, subject))
        },
    )?;
    evidence.held = hold::next(&manifest.holds, &author.rendered.holds, None);
    let judged = judge(
        &admitted,
        &author.rendered,
        &evidence,
        history,
        manifest.issued,
    );
    let admit = judged.iter().filter(|one| one.verdict.is_admit());
    let admit = admit.map(|one| one.change.clone()).collect();
    Ok(Replayed {
        manifest: manifest.clone(),
        due: batch(admit, &admitted, &author.rendered, MAX_CHANGES),
        judged,
        held: evidence.held,
        edits: hold::edits(
            before.map_or(&[], |before| &before.manifest.holds),
            &manifest.holds,
        ),
    })
}
