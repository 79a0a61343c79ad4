//! Steps 5 and 6: the branch `admitted`, from what was accepted before to its tip, one manifest after the other.

use std::mem;

use jiff::Timestamp;

use crate::admitted::STATEMENT;
use crate::commit::Links;
use crate::digest::{ObjectId, Sha256Hash};
use crate::git::Git;
use crate::manifest::{Link, Manifest};
use crate::tree::{Difference, Rolling, Snapshot};
use crate::trust::{Anchor, Trust};
use crate::{Code, Refusal};

use super::chain::Chain;
use super::content::{self, Ids};
use super::files::links;
use super::statement::Statement;

/// git's id of the empty tree, with which the log begins.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// One commit on `admitted` and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The commit.
    pub commit: ObjectId,
    /// The commit's parents: the entry before it, and the commit of `main`.
    pub parents: Vec<ObjectId>,
    /// The commit's tree.
    pub tree: ObjectId,
    /// The manifest.
    pub manifest: Manifest,
    /// Of the bytes, which are the manifest's one spelling.
    hash: Sha256Hash,
    statement: Statement,
}

impl Entry {
    /// Reads a commit of `admitted`; nothing is verified but the form.
    ///
    /// # Errors
    /// `MANIFEST_NEWER`; `MANIFEST_MALFORMED`, also if there is no manifest.
    pub fn read(git: &Git, commit: &ObjectId) -> Result<Self, Refusal> {
        Self::at(git, *commit, links(git, commit)?)
    }

    /// Reads the commit of `admitted` that points to `links`.
    fn at(git: &Git, commit: ObjectId, links: Links) -> Result<Self, Refusal> {
        let statement = Statement::read(git, &commit, &links.tree)?;
        let parsed = Manifest::parse(&statement.bytes);
        Ok(Self {
            commit,
            parents: links.parents,
            tree: links.tree,
            manifest: parsed.map_err(|refusal| refusal.at(format_args!("commit {commit}")))?,
            hash: Sha256Hash::of(&statement.bytes),
            statement,
        })
    }

    /// The entry before this one, by the hash that this one names; `None` before the first.
    ///
    /// # Errors
    /// `CHAIN_BROKEN`, and those of [`Entry::read`].
    pub fn previous(&self, git: &Git) -> Result<Option<Self>, Refusal> {
        if self.manifest.previous == Sha256Hash::ZERO {
            return Ok(None);
        }
        let previous = self.parents.first().ok_or_else(|| self.broken())?;
        let previous = Self::read(git, previous)?;
        if previous.hash != self.manifest.previous {
            return Err(self.broken());
        }
        Ok(Some(previous))
    }

    /// Says whether the commit before this one holds what the manifest names; nothing, before the first.
    fn stands(&self, git: &Git) -> bool {
        match self.previous(git) {
            Ok(Some(_)) => true,
            Ok(None) => {
                let root = self.parents.first().map(|root| links(git, root));
                root.is_some_and(|root| root.is_ok_and(|root| is_root(&root)))
            }
            Err(_) => false,
        }
    }

    /// What the next manifest follows.
    pub(super) fn link(&self) -> Link {
        Link {
            sequence: self.manifest.sequence,
            hash: self.hash,
            trust: self.manifest.trust.version,
            issued: self.manifest.issued,
        }
    }

    /// Checks that a policy key of this fleet, listed now or before, signed the manifest: only then does it contradict
    /// another one, whoever serves it.
    ///
    /// # Errors
    /// `WRONG_DOMAIN`, and those of [`Trust::verify_manifest`].
    fn check_contradicts(&self, git: &Git, chain: &Chain) -> Result<(), Refusal> {
        let Manifest {
            domain, sequence, ..
        } = &self.manifest;
        if domain != chain.domain() {
            let detail = format!(
                "manifest {sequence}: domain {domain}, expected {}",
                chain.domain()
            );
            return Err(Refusal::new(Code::WrongDomain, detail));
        }
        self.statement.check_signed(git, chain)
    }

    fn broken(&self) -> Refusal {
        let Manifest {
            sequence, previous, ..
        } = &self.manifest;
        let detail = format!("manifest {sequence}: the commit before it does not hold {previous}");
        Refusal::new(Code::ChainBroken, detail)
    }
}

/// How far a log was accepted: by a floor, or by root's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    pub(super) hash: Sha256Hash,
    /// The sequence that follows, if root says that it is not the next number.
    pub(super) next: Option<u64>,
}

impl Mark {
    /// Where to continue: at `sequence` and `hash`, unless the newest trust file vouches for a later place.
    pub(super) fn new(sequence: u64, hash: Sha256Hash, trust: &Trust) -> Self {
        match &trust.anchor {
            Some(Anchor {
                sequence: at,
                manifest,
                next,
                ..
            }) if sequence < *next => Self {
                sequence: *at,
                hash: *manifest,
                next: Some(*next),
            },
            _ => Self {
                sequence,
                hash,
                next: None,
            },
        }
    }
}

/// A commit of `admitted` that was not looked into yet.
#[derive(Debug)]
pub(super) struct Newer {
    commit: ObjectId,
    links: Links,
}

/// 5. The commits of `admitted` after `mark`, oldest first, and the entry at it; `None` if that is the log's beginning.
///
/// # Errors
/// `LOG_ROLLBACK` if the log lacks what was accepted, `LOG_FORK` if policy signed something else in its place;
/// `WRONG_DOMAIN`, `MANIFEST_UNSIGNED`, `SIGNATURE_NONCANONICAL` if only others did.
pub(super) fn since(
    git: &Git,
    chain: &Chain,
    tip: &ObjectId,
    mark: &Mark,
) -> Result<(Option<Entry>, Vec<Newer>), Refusal> {
    let accepted = format!("accepted was manifest {} {}", mark.sequence, mark.hash);
    let mut newer = Vec::new();
    let mut commit = *tip;
    loop {
        let links = links(git, &commit)?;
        // What is not in form is refused by step 6, in its turn.
        let entry = if mark.sequence == 0 {
            None
        } else {
            Entry::at(git, commit, links.clone()).ok()
        };
        if let Some(entry) = entry.filter(|entry| entry.manifest.sequence <= mark.sequence) {
            let hash = entry.hash;
            let is_accepted = (entry.manifest.sequence, hash) == (mark.sequence, mark.hash);
            if is_accepted && entry.stands(git) {
                newer.reverse();
                return Ok((Some(entry), newer));
            }
            let detail = format!("{accepted}, the log has {} {hash}", entry.manifest.sequence);
            if entry.manifest.sequence < mark.sequence {
                return Err(Refusal::new(Code::LogRollback, detail));
            }
            // The manifest that was accepted, said once more on top of it or elsewhere, is refused by step 6 too.
            if !is_accepted {
                entry.check_contradicts(git, chain)?;
                return Err(Refusal::new(Code::LogFork, detail));
            }
        }
        match links.parents.first() {
            Some(&parent) => {
                newer.push(Newer { commit, links });
                commit = parent;
            }
            None if mark.sequence > 0 => {
                let detail = format!("{accepted}, which the log does not have");
                return Err(Refusal::new(Code::LogRollback, detail));
            }
            None if !is_root(&links) => {
                let detail = format!(
                    "commit {commit}: the log begins with something else than an empty tree"
                );
                return Err(Refusal::new(Code::ManifestMalformed, detail));
            }
            None => {
                newer.reverse();
                return Ok((None, newer));
            }
        }
    }
}

/// Says whether a commit is what a log begins with.
fn is_root(links: &Links) -> bool {
    links.parents.is_empty() && links.tree.to_string() == EMPTY_TREE
}

/// A place in the log up to which everything passed, with the trees there.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) last: Option<Entry>,
    pub(super) admitted: Rolling,
    author: Rolling,
    next: Option<u64>,
    ids: Ids,
}

impl Position {
    /// Begins at `entry`, whose manifest was accepted before; that its commit holds the tree it was accepted with is not
    /// known yet, because anybody can put an old manifest beside other files.
    ///
    /// # Errors
    /// `TREE_MISMATCH`.
    pub(super) fn at(
        git: &Git,
        entry: Option<Entry>,
        chain: &Chain,
        mark: &Mark,
    ) -> Result<Self, Refusal> {
        let empty = Rolling::empty();
        let admitted = match &entry {
            Some(entry) => {
                let limits = &chain.get(&entry.manifest.trust)?.limits;
                let (admitted, _) = empty.advanced(git, &entry.tree, limits)?;
                let id = admitted.id_without(&STATEMENT);
                content::check_tree(&entry.manifest, &id)
                    .map_err(|refusal| refusal.at(format_args!("commit {}", entry.commit)))?;
                admitted
            }
            None => empty.clone(),
        };
        Ok(Self {
            last: entry,
            admitted,
            author: empty,
            next: mark.next,
            ids: Ids::default(),
        })
    }

    /// Says whether nothing was admitted yet since root vouched for the log.
    pub(super) fn is_at_anchor(&self) -> bool {
        self.next.is_some()
    }

    /// What the next manifest follows.
    pub(super) fn link(&self) -> Link {
        let link = self.last.as_ref().map_or(Link::START, Entry::link);
        Link {
            sequence: self
                .next
                .map_or(link.sequence, |next| next.saturating_sub(1)),
            ..link
        }
    }

    /// 6. Checks that `newer` is the next admission, and steps on to it; returns what differs in the author's tree.
    pub(super) fn step(
        &mut self,
        git: &Git,
        chain: &Chain,
        newer: Newer,
        now: Timestamp,
    ) -> Result<Difference, Refusal> {
        let Newer { commit, links } = newer;
        let tree = links.tree;
        let entry = match Entry::at(git, commit, links) {
            // An upgrade is asked for only by what policy has signed, and not by what anybody serves.
            Err(refusal) if refusal.code == Code::ManifestNewer => {
                Statement::read(git, &commit, &tree)?.check_signed(git, chain)?;
                return Err(refusal);
            }
            entry => entry?,
        };
        let manifest = &entry.manifest;
        let at = |refusal: Refusal| refusal.at(format_args!("manifest {}", manifest.sequence));
        let trust = self.check_statement(chain, manifest, now);
        let trust = trust.map_err(|refusal| match self.next {
            // After an anchor nothing but what root named may follow.
            Some(_) if refusal.code.breaks_sequence() => {
                let checked = entry.check_contradicts(git, chain);
                let fork = |()| Refusal::new(Code::LogFork, refusal.detail);
                checked.map_or_else(|other| other, fork)
            }
            _ => refusal,
        })?;
        let key = entry.statement.signer(git, trust).map_err(at)?;
        chain
            .newest()
            .check_policy_key(&key, manifest.sequence)
            .map_err(at)?;
        if entry.parents.get(1) != Some(&manifest.author.commit) {
            let (id, author) = (entry.commit, manifest.author.commit);
            let detail = format!("commit {id} is not a child of {author}");
            return Err(at(Refusal::new(Code::OriginMismatch, detail)));
        }
        let (author, difference) = self.check_author(git, trust, manifest).map_err(at)?;
        let (admitted, changed) = self
            .admitted
            .advanced(git, &entry.tree, &trust.limits)
            .map_err(at)?;
        let mut ids = mem::take(&mut self.ids);
        let without = admitted.id_without(&STATEMENT);
        content::check(manifest, &without, &changed.changes, &mut ids).map_err(at)?;
        *self = Self {
            last: Some(entry),
            admitted,
            author,
            next: None,
            ids,
        };
        Ok(difference)
    }

    /// Checks what the manifest says about itself, and finds the trust file that judges it.
    pub(super) fn check_statement<'a>(
        &self,
        chain: &'a Chain,
        manifest: &Manifest,
        now: Timestamp,
    ) -> Result<&'a Trust, Refusal> {
        manifest.check_follows(chain.domain(), &self.link(), now)?;
        let trust = chain.get(&manifest.trust);
        trust.map_err(|refusal| refusal.at(format_args!("manifest {}", manifest.sequence)))
    }

    /// Checks that the manifest's author follows the one before, and that his tree is the one that was signed.
    pub(super) fn check_author(
        &self,
        git: &Git,
        trust: &Trust,
        manifest: &Manifest,
    ) -> Result<(Rolling, Difference), Refusal> {
        let commit = &manifest.author.commit;
        if let Some(before) = &self.last {
            git.first_parents(commit, Some(&before.manifest.author.commit))?;
        }
        let root = links(git, commit)?.tree;
        let (author, difference) = self.author.advanced(git, &root, &trust.limits)?;
        let got = author.sha256_id();
        if got != manifest.author_tree {
            let detail = format!(
                "the tree of commit {commit} is {got}, expected {}",
                manifest.author_tree
            );
            return Err(Refusal::new(Code::TreeMismatch, detail));
        }
        Ok((author, difference))
    }

    /// The admitted tree.
    pub(super) fn into_snapshot(self) -> Snapshot {
        self.admitted.snapshot().clone()
    }
}
