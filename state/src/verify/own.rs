//! The same steps for policy, on the repository that it serves: its own log, what is pushed to `main`, what it is about to sign.

use std::cell::Cell;
use std::sync::Arc;

use jiff::Timestamp;

use crate::admitted::{MANIFEST, SIGNATURE, STATEMENT, path, place};
use crate::commit::{self, Commit, Links};
use crate::digest::{ObjectId, Sha256Hash};
use crate::environment::Environment;
use crate::floor::SKEW;
use crate::git::{Git, Kind};
use crate::manifest::{Change, Link, Manifest, Subject};
use crate::name::EnvironmentName;
use crate::release::{Release, Rules};
use crate::tree::{self, File, Files, Limits, Objects as _, Snapshot};
use crate::{Code, Refusal, approval, render};

use super::additions::{Additions, Known};
use super::approvals::Approvals;
use super::chain::Chain;
use super::checkpoint::Checkpoint;
use super::content::{self, Ids};
use super::files::links;
use super::holds;
use super::log::{self, Entry, Mark, Newer, Position};
use super::main_walk::{self, Judge, Judged, MainLog};
use super::needs;

/// More bytes than an armoured signature has: it is made after the tree was checked.
const SIGNATURE_ROOM: usize = 512;

/// A log that verified, up to its tip or to the last entry that does.
#[derive(Clone, Debug)]
pub struct Log {
    chain: Chain,
    position: Position,
    junk: Option<Refusal>,
    began_at: Option<ObjectId>,
}

/// Verifies the whole log with the tip `admitted` (`None`: nothing was admitted yet): steps 4 to 7 and 9 to 11.
///
/// # Errors
/// Those of the steps, but for the first entry that does not pass: it and what lies on it is [`Log::junk`].
pub fn log(
    git: &Git,
    chain: Chain,
    admitted: Option<&ObjectId>,
    now: Timestamp,
) -> Result<Log, Refusal> {
    log_since(git, chain, admitted, now, None)
}

/// The same, with the same result, where what came after `known` is all that must be looked at.
///
/// # Errors
/// Those of [`log`](fn@log).
pub fn log_since(
    git: &Git,
    chain: Chain,
    admitted: Option<&ObjectId>,
    now: Timestamp,
    known: Option<&Checkpoint>,
) -> Result<Log, Refusal> {
    chain.newest().check_expiry(now)?;
    let start = match (known, admitted) {
        (Some(known), Some(tip)) => Start::at(git, &chain, tip, now, known),
        _ => None,
    };
    let start = match start {
        Some(start) => start,
        None => Start::first(git, &chain, admitted)?,
    };
    let Start {
        mut main,
        mut position,
        newer,
        mut junk,
        began_at,
    } = start;
    for commit in newer {
        let difference = match position.step(git, &chain, commit, now) {
            Ok(difference) => difference,
            Err(refusal) => {
                junk = Some(refusal);
                break;
            }
        };
        if let Some(entry) = &position.last {
            main.push(&entry.manifest);
            main.advance(git, &chain, Some(&difference));
        }
    }
    if let Some((sequence, refusal)) = main.judge(git, &chain).refused {
        return Err(refusal.at(format_args!("manifest {sequence}")));
    }
    Ok(Log {
        chain,
        position,
        junk,
        began_at,
    })
}

/// Where the verification of a log begins, and what lies beyond.
struct Start {
    main: MainLog,
    position: Position,
    newer: Vec<Newer>,
    junk: Option<Refusal>,
    began_at: Option<ObjectId>,
}

impl Start {
    /// At the first entry, or where root vouches for the log.
    fn first(git: &Git, chain: &Chain, tip: Option<&ObjectId>) -> Result<Self, Refusal> {
        let mark = Mark::new(0, Sha256Hash::ZERO, chain.newest());
        let mut junk = None;
        let (entry, newer) = match tip.map(|tip| log::since(git, chain, tip, &mark)) {
            None => (None, Vec::new()),
            // Not even the beginning is that of a log: there is nothing but junk.
            Some(Err(refusal)) if refusal.code == Code::ManifestMalformed => {
                junk = Some(refusal);
                (None, Vec::new())
            }
            Some(found) => found?,
        };
        Ok(Self {
            main: MainLog::before(git, chain, entry.as_ref(), &mark, None)?,
            position: Position::at(git, entry, chain, &mark)?,
            newer,
            junk,
            began_at: None,
        })
    }

    /// At the entry `known`, if the same trust file is in force and `tip` still stands on it.
    fn at(
        git: &Git,
        chain: &Chain,
        tip: &ObjectId,
        now: Timestamp,
        known: &Checkpoint,
    ) -> Option<Self> {
        if !known.counts(chain) {
            return None;
        }
        let mark = Mark::new(known.sequence, known.manifest, chain.newest());
        let (entry, newer) = log::since(git, chain, tip, &mark).ok()?;
        let entry = entry.filter(|entry| entry.commit == known.commit)?;
        // A clock that was set back makes old entries come from the future.
        if entry.manifest.issued.duration_since(now) > SKEW {
            return None;
        }
        let author = entry.manifest.author.clone();
        Some(Self {
            main: MainLog::before(git, chain, Some(&entry), &mark, Some(&author)).ok()?,
            position: Position::at(git, Some(entry), chain, &mark).ok()?,
            newer,
            junk: None,
            began_at: Some(known.commit),
        })
    }
}

impl Log {
    /// Where its verification may begin the next time; `None` as long as nothing was admitted, or nothing since root
    /// vouched for the log.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let entry = self.last().filter(|_| !self.is_at_anchor())?;
        Some(Checkpoint {
            trust: self.chain.newest().reference(),
            sequence: entry.manifest.sequence,
            manifest: entry.link().hash,
            commit: entry.commit,
        })
    }

    /// The commit of the checkpoint at which verification began; `None` if all was verified.
    pub fn began_at(&self) -> Option<ObjectId> {
        self.began_at
    }

    /// The same log, with something else than `admitted` showed: all of that is junk, refused for the reason `why`.
    #[must_use]
    pub fn with_junk(self, why: Refusal) -> Self {
        Self {
            junk: Some(why),
            ..self
        }
    }

    /// The trust files.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The last entry that verified; [`Entry::previous`] leads to those before it.
    pub fn last(&self) -> Option<&Entry> {
        self.position.last.as_ref()
    }

    /// Why what lies on top of the last entry is junk, if anything does.
    pub fn junk(&self) -> Option<&Refusal> {
        self.junk.as_ref()
    }

    /// Says whether the last entry is the one that root vouches for, and nothing was admitted since.
    pub fn is_at_anchor(&self) -> bool {
        self.position.is_at_anchor()
    }

    /// The admitted tree.
    pub fn admitted(&self) -> &Snapshot {
        self.position.admitted.snapshot()
    }

    /// What the next manifest follows.
    pub fn link(&self) -> Link {
        self.position.link()
    }

    /// Judges what is new on `main` up to `tip` as the next admission would: steps 9 to 11, oldest commit first.
    ///
    /// # Errors
    /// `NOT_DESCENDANT`, `PARENT_UNSIGNED`, `WRONG_DOMAIN`, and those of steps 9 and 11.
    pub fn candidate(&self, git: &Git, tip: &ObjectId) -> Result<Vec<Commit>, Refusal> {
        let commits = self.walk(git, tip)?;
        let domain = main_walk::check_domain(git, self.chain.domain(), tip);
        domain.map_err(Refusal::of_draft)?;
        Ok(commits)
    }

    /// The part of [`Log::candidate`] that no later commit can put right: judges each commit by itself.
    ///
    /// # Errors
    /// Those of [`Log::candidate`].
    pub fn walk(&self, git: &Git, tip: &ObjectId) -> Result<Vec<Commit>, Refusal> {
        let judge = Judge {
            trust: self.chain.newest(),
            newest: self.chain.newest(),
            sequence: self.link().sequence.saturating_add(1),
            known: None,
        };
        main_walk::walk(git, &self.judged(), tip, &judge, &mut Known::default())
    }

    /// Checks that hosts could fetch `side` if it were merged into `main` at `base`, whoever signs that.
    ///
    /// # Errors
    /// `PUSH_TOO_BIG`, `COMMIT_MALFORMED`, and those of [`tree::parse`].
    pub fn check_side(&self, git: &Git, base: &ObjectId, side: &ObjectId) -> Result<(), Refusal> {
        let merge = Links {
            tree: links(git, base)?.tree,
            parents: vec![*base, *side],
        };
        let mut additions = Additions::new(git, &self.chain.newest().limits);
        for (id, links) in Known::default().sides(git, &merge)? {
            additions.count(&id, &links)?;
        }
        Ok(())
    }

    /// The commits of `main` that [`Log::walk`] judges, newest first.
    ///
    /// # Errors
    /// `NOT_DESCENDANT`, and those of reading commits.
    pub fn unjudged(&self, git: &Git, tip: &ObjectId) -> Result<Vec<ObjectId>, Refusal> {
        main_walk::path(git, &self.judged(), tip)
    }

    /// Up to where the commits of `main` were judged.
    fn judged(&self) -> Judged {
        let last = self.last().map(|entry| entry.manifest.author.commit);
        let anchor = self.chain.newest().anchor.as_ref();
        match anchor.filter(|_| self.is_at_anchor()) {
            Some(anchor) => Judged::Payload(anchor.main),
            None => last.map_or(Judged::Nothing, Judged::Commit),
        }
    }

    /// Checks a manifest and the admitted tree that it is for (without statement) by all of the steps but signatures,
    /// before anything is signed.
    ///
    /// # Errors
    /// `SELF_CHECK_FAILED`, with what an agent would refuse.
    pub fn check_next(
        &self,
        git: &Git,
        manifest: &Manifest,
        files: &Files,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let checked = self.check_as_agent(git, manifest, files, now);
        checked.map_err(|refusal| Refusal::new(Code::SelfCheckFailed, refusal.to_string()))
    }

    fn check_as_agent(
        &self,
        git: &Git,
        manifest: &Manifest,
        files: &Files,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        // 6.
        let manifest = &Manifest::parse(manifest.print().as_bytes())?;
        let trust = self.position.check_statement(&self.chain, manifest, now)?;
        let (author, _) = self.position.check_author(git, trust, manifest)?;
        let changes = changes(&self.admitted().files, files);
        let id = tree::sha256_id(files);
        content::check(manifest, &id, &changes, &mut Ids::default())?;
        // 11.
        check_size(manifest, files, &trust.limits)?;
        // 9. to 11.
        let commits = self.candidate(git, &manifest.author.commit)?;
        if let Some(commit) = commits
            .last()
            .filter(|commit| commit.origin() != manifest.author)
        {
            let detail = format!("commit {} has payload {}", commit.id, commit.payload_hash());
            return Err(Refusal::new(Code::PayloadMismatch, detail));
        }
        // 12.
        for change in &changes {
            if let Some(file) = &change.after {
                check_render(&author.snapshot().files, manifest, &change.path, file)?;
            }
        }
        holds::check(&author.snapshot().files, manifest)?;
        for change in &manifest.changes {
            needs::check(&author.snapshot().files, manifest, change, files)?;
        }
        self.check_demands(git, manifest, files)
    }

    /// 11. and 12. Checks what the rules in force demand of each change.
    fn check_demands(&self, git: &Git, manifest: &Manifest, files: &Files) -> Result<(), Refusal> {
        let mut approvals = self.approvals(git);
        let author = &manifest.author.commit;
        let commit = git.object(Kind::Commit, author, commit::MAX_BYTES)?;
        let commit = Commit::parse(*author, &commit)?;
        for change in &manifest.changes {
            let Change {
                environment,
                subject,
                ..
            } = change;
            let rules = rules_in_force(&self.admitted().files, files, environment)?;
            if change.to.is_some() {
                commit.check_tree_trailer(&manifest.author_tree, rules.tree_trailer)?;
            }
            if rules.approvals == 0 {
                continue;
            }
            let signed = approval::admitted(files, environment, subject);
            let standing = approvals.standing(change, author, &signed, manifest.issued)?;
            standing
                .check(rules.approvals)
                .map_err(|refusal| refusal.at(format_args!("{environment} {subject}")))?;
        }
        Ok(())
    }

    /// What approvals the next manifest will need.
    pub fn approvals<'a>(&'a self, git: &'a Git) -> Approvals<'a> {
        let sequence = self.link().sequence.saturating_add(1);
        let tip = &self.admitted().files;
        let newest = self.chain.newest();
        Approvals::new(git, &self.chain, newest, self.last(), tip, sequence)
    }

    /// What approvals an older manifest needed, after the entry `last` with the admitted tree `tip`.
    ///
    /// # Errors
    /// `TRUST_MISMATCH`.
    pub fn approvals_of<'a>(
        &'a self,
        git: &'a Git,
        last: Option<&Entry>,
        tip: &'a Files,
        manifest: &Manifest,
    ) -> Result<Approvals<'a>, Refusal> {
        let (chain, sequence) = (&self.chain, manifest.sequence);
        let trust = chain.get(&manifest.trust)?;
        Ok(Approvals::new(git, chain, trust, last, tip, sequence))
    }
}

/// 12. A release that changed is what the author's tree renders to.
fn check_render(
    author: &Files,
    manifest: &Manifest,
    path: &str,
    file: &File,
) -> Result<(), Refusal> {
    let origin = &manifest.author;
    let equal = match place(path) {
        Some((environment, Subject::Rules)) => {
            let rules = Rules::from_yaml(environment.clone(), &file.bytes)?;
            render::rules(author, &environment, origin)? == rules
        }
        Some((environment, Subject::Service(service))) => {
            let release = Release::from_yaml(environment.clone(), service.clone(), &file.bytes)?;
            render::one(author, &environment, &service, origin)? == release
        }
        None => true,
    };
    if equal {
        return Ok(());
    }
    let detail = format!(
        "commit {} renders '{path}' to something else",
        origin.commit
    );
    Err(Refusal::new(Code::RenderMismatch, detail))
}

/// The rules of an environment that are admitted; its own if it is new.
fn rules_in_force(
    before: &Files,
    after: &Files,
    environment: &EnvironmentName,
) -> Result<Environment, Refusal> {
    let path = path(environment, &Subject::Rules);
    let bytes = before.get(&path).or_else(|| after.get(&path));
    let bytes = bytes.ok_or_else(|| {
        let detail = format!("environment '{environment}' is not admitted");
        Refusal::new(Code::EnvironmentUnknown, detail)
    })?;
    Ok(Rules::from_yaml(environment.clone(), bytes)?.spec)
}

/// The files that differ, statements apart.
fn changes(before: &Files, after: &Files) -> Vec<tree::Change> {
    let file = |files: &Files, path: &String| {
        files.get(path).map(|bytes| File {
            executable: false,
            bytes: Arc::clone(bytes),
        })
    };
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    paths.retain(|path| {
        !STATEMENT.contains(&path.as_str()) && before.get(*path) != after.get(*path)
    });
    let change = |path: &String| tree::Change {
        path: path.clone(),
        before: file(before, path),
        after: file(after, path),
    };
    paths.into_iter().map(change).collect()
}

/// Checks that whoever reads the admitted tree whole, with the statement and the objects of its folders, stays within
/// the limits.
fn check_size(manifest: &Manifest, files: &Files, limits: &Limits) -> Result<(), Refusal> {
    let mut whole = files.clone();
    whole.insert(MANIFEST.to_owned(), manifest.print().as_bytes().into());
    whole.insert(SIGNATURE.to_owned(), [0; SIGNATURE_ROOM].into());
    let bytes = Cell::new(0);
    tree::write(&whole, |_, object| {
        bytes.set(bytes.get() + object.len() as u64);
        Ok(ObjectId([0; 20])) // as long as any other
    })?;
    let (count, bytes) = (whole.len() as u64, bytes.get());
    if count > limits.files || bytes > limits.bytes.0 {
        let detail = format!(
            "the admitted tree has {count} files of {bytes} bytes, at most {} of {} are allowed",
            limits.files, limits.bytes
        );
        return Err(Refusal::new(Code::TreeTooBig, detail));
    }
    Ok(())
}
