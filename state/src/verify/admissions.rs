//! The log of admissions, read back from its tip: which manifest was the first from a commit, which one admitted a
//! release, what it took the place of, and by which rules.
//!
//! Each entry is read once, however many questions are asked, and none further back than a question needs. What a
//! question is answered with comes from manifests, which the chain vouches for; a file of an older tree counts only by
//! the id that a manifest gives it, because anybody can put an old manifest beside other files. What an intake has just
//! read is not read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::admitted::{evidence, path};
use crate::approval::{self, Signed};
use crate::digest::{ObjectId, ReleaseId};
use crate::git::Git;
use crate::manifest::{Change, Manifest, Subject};
use crate::name::EnvironmentName;
use crate::release::Rules;
use crate::tree::Files;
use crate::{Code, Refusal, yaml};

use super::files;
use super::log::Entry;

/// One manifest of the log.
#[derive(Debug)]
pub(super) struct Admission {
    /// The manifest.
    pub(super) manifest: Manifest,
    /// How many manifests are newer.
    age: usize,
    /// The tree beside it.
    tree: ObjectId,
}

impl Admission {
    /// What was `read` of a log, oldest first, up to its tip.
    pub(super) fn newest_first(read: Vec<(Manifest, ObjectId)>) -> Vec<Arc<Self>> {
        let admission = |(age, (manifest, tree))| {
            Arc::new(Self {
                manifest,
                age,
                tree,
            })
        };
        read.into_iter().rev().enumerate().map(admission).collect()
    }

    /// What the manifest says about a place.
    pub(super) fn change(
        &self,
        environment: &EnvironmentName,
        subject: &Subject,
    ) -> Option<&Change> {
        let place = (environment, subject);
        let mut changes = self.manifest.changes.iter();
        changes.find(|change| change.place() == place)
    }
}

/// One change line of the log.
#[derive(Clone, Copy, Debug)]
struct Line {
    age: usize,
    from: Option<ReleaseId>,
    to: Option<ReleaseId>,
}

/// A log, as far as it was read.
pub(super) struct Admissions<'a> {
    git: &'a Git,
    /// The admitted tree at the tip, which was verified.
    tip: &'a Files,
    /// The newest, as far as they need not be read.
    newest: &'a [Arc<Admission>],
    /// The next entry to read on the way back, after the newest.
    cursor: Option<Entry>,
    /// What was read, newest first.
    read: Vec<Arc<Admission>>,
    /// The oldest that was read from each author's commit.
    authors: BTreeMap<ObjectId, usize>,
    /// The change lines of each place, newest first.
    lines: BTreeMap<(EnvironmentName, Subject), Vec<Line>>,
}

impl<'a> Admissions<'a> {
    /// The log with the admitted tree `tip` whose newest entries are `newest`, on top of `last`.
    pub(super) fn new(
        git: &'a Git,
        newest: &'a [Arc<Admission>],
        last: Option<&Entry>,
        tip: &'a Files,
    ) -> Self {
        Self {
            git,
            tip,
            newest,
            cursor: last.cloned(),
            read: Vec::new(),
            authors: BTreeMap::new(),
            lines: BTreeMap::new(),
        }
    }

    /// The first manifest that was made from the commit `author`.
    ///
    /// # Errors
    /// `ORIGIN_MISMATCH` if none was.
    pub(super) fn first_from(&mut self, author: &ObjectId) -> Result<Arc<Admission>, Refusal> {
        loop {
            let older = self
                .next()
                .is_none_or(|manifest| manifest.author.commit != *author);
            match self.authors.get(author) {
                Some(age) if older => return Ok(Arc::clone(&self.read[*age])),
                _ => {}
            }
            if !self.read_on()? {
                let detail = format!("no manifest was made from commit {author}");
                return Err(Refusal::new(Code::OriginMismatch, detail));
            }
        }
    }

    /// The manifest that admitted `id` at a place: the newest one whose change line says so.
    ///
    /// # Errors
    /// `ORIGIN_MISMATCH` if none did.
    pub(super) fn that_admitted(
        &mut self,
        environment: &EnvironmentName,
        subject: &Subject,
        id: &ReleaseId,
    ) -> Result<Arc<Admission>, Refusal> {
        let found = self.line(environment, subject, |line| line.to == Some(*id))?;
        let found = found.ok_or_else(|| {
            let detail = format!("no manifest admitted {environment} {subject} {id}");
            Refusal::new(Code::OriginMismatch, detail)
        })?;
        Ok(Arc::clone(&self.read[found.age]))
    }

    /// The newest manifest before `before` (`None`: of all) that changed a place; `None` if none did.
    pub(super) fn last_change(
        &mut self,
        environment: &EnvironmentName,
        subject: &Subject,
        before: Option<&Admission>,
    ) -> Result<Option<Arc<Admission>>, Refusal> {
        let is_before = |line: &Line| before.is_none_or(|before| line.age > before.age);
        let found = self.line(environment, subject, is_before)?;
        Ok(found.map(|line| Arc::clone(&self.read[line.age])))
    }

    /// Says whether a manifest after `sequence` changed a place.
    pub(super) fn changed_since(
        &mut self,
        environment: &EnvironmentName,
        subject: &Subject,
        sequence: u64,
    ) -> Result<bool, Refusal> {
        while self.next().is_some_and(|next| next.sequence > sequence) {
            self.read_on()?;
        }
        let newer = self.read.iter().map(|admission| &admission.manifest);
        let mut newer = newer.take_while(|manifest| manifest.sequence > sequence);
        let place = (environment, subject);
        Ok(newer.any(|manifest| {
            manifest
                .changes
                .iter()
                .any(|change| change.place() == place)
        }))
    }

    /// The release of a place in the tree that `admission` left; `None` if it had none.
    pub(super) fn release_at(
        &mut self,
        environment: &EnvironmentName,
        subject: &Subject,
        admission: &Admission,
    ) -> Result<Option<ReleaseId>, Refusal> {
        let found = self.line(environment, subject, |line| line.age >= admission.age)?;
        Ok(found.and_then(|line| line.to))
    }

    /// The rules that `admission` was judged by in `environment`: those admitted before it, or the environment's own if
    /// it was new.
    ///
    /// # Errors
    /// `ENVIRONMENT_UNKNOWN` if it had none, `TREE_MISMATCH` if the log no longer holds them.
    pub(super) fn rules_for(
        &mut self,
        environment: &EnvironmentName,
        admission: &Admission,
    ) -> Result<Rules, Refusal> {
        self.read_past(admission.age)?;
        let key = (environment.clone(), Subject::Rules);
        let lines = self.lines.get(&key).map_or(&[][..], Vec::as_slice);
        let next = lines.iter().rev().find(|line| line.age <= admission.age);
        let tip = self.tip.get(&path(environment, &Subject::Rules));
        let (id, age) = match next {
            // Nothing has changed them since.
            None => {
                let bytes = tip.ok_or_else(|| none(environment))?;
                return Rules::from_yaml(environment.clone(), bytes);
            }
            Some(line) => match (line.from, line.to) {
                (Some(from), _) => (from, admission.age + 1),
                (None, Some(own)) if line.age == admission.age => (own, admission.age),
                (None, _) => return Err(none(environment)),
            },
        };
        let tip = tip.map(|bytes| Rules::from_yaml(environment.clone(), bytes));
        if let Some(Ok(rules)) = tip.filter(|rules| matches!(rules, Ok(rules) if rules.id() == id))
        {
            return Ok(rules);
        }
        self.rules_of_tree(environment, age, &id)
    }

    /// The approvals that lie in the tree of `admission` for a place.
    pub(super) fn evidence(
        &self,
        environment: &EnvironmentName,
        subject: &Subject,
        admission: &Admission,
    ) -> Result<Vec<Signed>, Refusal> {
        let folder = evidence(environment, subject);
        let files = files::folder_at(self.git, &admission.tree, &folder, approval::MAX_BYTES)?;
        let files = files.into_iter();
        let files = files.map(|(name, bytes)| (format!("{folder}{name}"), bytes.into()));
        Ok(approval::admitted(&files.collect(), environment, subject))
    }

    /// The rules `id` as the tree of an older manifest has them.
    fn rules_of_tree(
        &self,
        environment: &EnvironmentName,
        age: usize,
        id: &ReleaseId,
    ) -> Result<Rules, Refusal> {
        let file = path(environment, &Subject::Rules);
        let admission = self.read.get(age).ok_or_else(|| none(environment))?;
        let at = |refusal: Refusal| {
            refusal.at(format_args!(
                "manifest {}: '{file}'",
                admission.manifest.sequence
            ))
        };
        let bytes = files::file_at(self.git, &admission.tree, &file, yaml::MAX_BYTES as u64);
        let rules = match bytes.map_err(at)? {
            Some(bytes) => Rules::from_yaml(environment.clone(), &bytes).map_err(at)?,
            None => return Err(at(Refusal::new(Code::TreeMismatch, "it is missing"))),
        };
        if rules.id() != *id {
            let detail = format!("it is {}, expected {id}", rules.id());
            return Err(at(Refusal::new(Code::TreeMismatch, detail)));
        }
        Ok(rules)
    }

    /// The newest change line of a place that `wanted` accepts.
    fn line(
        &mut self,
        environment: &EnvironmentName,
        subject: &Subject,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<Option<Line>, Refusal> {
        let place = (environment.clone(), subject.clone());
        let mut seen = 0;
        loop {
            let lines = self.lines.get(&place).map_or(&[][..], Vec::as_slice);
            if let Some(line) = lines[seen..].iter().find(|line| wanted(line)) {
                return Ok(Some(*line));
            }
            seen = lines.len();
            if !self.read_on()? {
                return Ok(None);
            }
        }
    }

    /// Reads on until the manifest before the one of this age was read, or the log ends.
    fn read_past(&mut self, age: usize) -> Result<(), Refusal> {
        while self.read.len() <= age + 1 && self.read_on()? {}
        Ok(())
    }

    /// The manifest that is read next.
    fn next(&self) -> Option<&Manifest> {
        let newest = self.newest.get(self.read.len());
        let newest = newest.map(|admission| &admission.manifest);
        newest.or_else(|| self.cursor.as_ref().map(|entry| &entry.manifest))
    }

    /// Reads the next older entry; `false` if there is none.
    fn read_on(&mut self) -> Result<bool, Refusal> {
        let age = self.read.len();
        let admission = match (self.newest.get(age), self.cursor.take()) {
            (Some(admission), cursor) => {
                self.cursor = cursor;
                Arc::clone(admission)
            }
            (None, Some(entry)) => {
                self.cursor = entry.previous(self.git)?;
                let Entry { manifest, tree, .. } = entry;
                Arc::new(Admission {
                    manifest,
                    age,
                    tree,
                })
            }
            (None, None) => return Ok(false),
        };
        self.authors.insert(admission.manifest.author.commit, age);
        for change in &admission.manifest.changes {
            let place = (change.environment.clone(), change.subject.clone());
            let (from, to) = (change.from, change.to);
            self.lines
                .entry(place)
                .or_default()
                .push(Line { age, from, to });
        }
        self.read.push(admission);
        Ok(true)
    }
}

fn none(environment: &EnvironmentName) -> Refusal {
    let detail = format!("environment '{environment}' had no rules when this was admitted");
    Refusal::new(Code::EnvironmentUnknown, detail)
}
