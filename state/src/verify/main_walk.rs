//! Steps 9 to 11 for the branch `main`: who signed each commit, and whether he may change what it changes.

use std::borrow::Cow;
use std::mem;

use crate::commit::{self, Commit, Links, TreeTrailer};
use crate::digest::{Domain, ObjectId, PayloadHash};
use crate::git::{Git, Kind};
use crate::manifest::{Manifest, TrustRef};
use crate::release::Origin;
use crate::tree::{self, Difference, Files, Objects as _};
use crate::trust::{Author, Trust};
use crate::{Code, Refusal, render};

use super::additions::{Additions, Known, side_changes};
use super::chain::Chain;
use super::files::{Folder, links};
use super::log::{Entry, Mark};

/// The file that ties a tree of `main` to its fleet, and the most bytes of it that are read.
const REPOSITORY: (&str, u64) = ("repository.yaml", 256 << 10);

/// Up to where the commits of `main` were judged before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// None was.
    Nothing,
    /// Up to this commit.
    Commit(ObjectId),
    /// Up to the commit with this payload, by root's word.
    Payload(PayloadHash),
}

/// As of which manifest commits are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    /// The trust file that the manifest names.
    pub(super) trust: &'a Trust,
    /// The one in force, which says whose keys have ended.
    pub(super) newest: &'a Trust,
    /// The manifest's sequence.
    pub(super) sequence: u64,
    /// What is known to differ between two trees; most often those of the manifest's author and of the one before.
    pub(super) known: Option<&'a Difference>,
}

impl<'a> Judge<'a> {
    /// 9. The commit `id` of `main`: its grammar, its signature, and that its key had not ended.
    pub(super) fn authenticate(
        &self,
        git: &Git,
        id: &ObjectId,
    ) -> Result<(Commit, &'a Author), Refusal> {
        let commit = Commit::parse(*id, &git.object(Kind::Commit, id, commit::MAX_BYTES)?)?;
        let author = self.trust.verify_commit(&commit)?;
        let key = commit.signature.key();
        let in_force = self.newest.check_author_key(key, self.sequence);
        in_force.map_err(|refusal| refusal.at(format_args!("commit {id}")))?;
        Ok((commit, author))
    }

    /// 9., 10. and 11. One commit of `main`: who made it, whether he may make the whole difference to its first parent,
    /// and whether hosts can fetch what it and the sides that it merges add.
    fn judge(
        &self,
        git: &Git,
        id: &ObjectId,
        commits: &mut Known,
        additions: &mut Additions<'_>,
    ) -> Result<Commit, Refusal> {
        let (commit, author) = self.authenticate(git, id)?;
        let before = commit
            .parents
            .first()
            .map(|parent| links(git, parent))
            .transpose()?;
        let before = before.map(|parent| parent.tree);
        let known = self.known;
        let known = known.filter(|known| (known.before, known.after) == (before, commit.tree));
        let changes = match known {
            Some(known) => Ok(Cow::Borrowed(&known.changes[..])),
            None => tree::changes(git, before.as_ref(), &commit.tree, &self.trust.limits)
                .map(Cow::Owned),
        };
        let allowed = changes.and_then(|changes| {
            let mut changes = changes.iter();
            changes.try_for_each(|change| author.check_change(change))
        });
        allowed.map_err(|refusal| refusal.at(format_args!("commit {id} by '{}'", author.name)))?;
        self.check_trailer(git, &commit)?;
        let at = |refusal: Refusal| refusal.at(format_args!("commit {id}"));
        let links = Links {
            tree: commit.tree,
            parents: commit.parents.clone(),
        };
        let sides = commits.sides(git, &links).map_err(at)?;
        for (id, links) in &sides {
            additions.count(id, links)?;
        }
        additions.count(id, &links)?;
        for (side, links) in &sides {
            self.check_side(git, side, links, author).map_err(at)?;
        }
        commits.add([*id].into_iter().chain(sides.iter().map(|(id, _)| *id)));
        Ok(commit)
    }

    /// 10. A commit of a side: its own author, or else `merger`, may make its changes.
    fn check_side(
        &self,
        git: &Git,
        id: &ObjectId,
        links: &Links,
        merger: &Author,
    ) -> Result<(), Refusal> {
        let commit = Commit::parse(*id, &git.object(Kind::Commit, id, commit::MAX_BYTES)?);
        let signer = commit.and_then(|commit| self.trust.verify_commit(&commit));
        for change in side_changes(git, links, &self.trust.limits)? {
            let by_signer = signer.as_ref().map(|signer| signer.check_change(&change));
            if by_signer == Ok(Ok(())) {
                continue;
            }
            merger
                .check_change(&change)
                .map_err(|refusal| match by_signer {
                    Ok(_) => refusal.at(format_args!("commit {id}, which it merges")),
                    Err(_) => {
                        let detail = format!(
                            "commit {id}, which it merges, is signed by no author, and: {}",
                            refusal.detail
                        );
                        Refusal::new(Code::ParentUnsigned, detail)
                    }
                })?;
        }
        Ok(())
    }

    /// 11. An author who names the SHA-256 id of his tree names it right.
    fn check_trailer(&self, git: &Git, commit: &Commit) -> Result<(), Refusal> {
        if commit.trailers("Tree-SHA256").next().is_none() {
            return Ok(());
        }
        let tree = tree::read(git, &commit.tree, &self.trust.limits)?.id;
        commit.check_tree_trailer(&tree, TreeTrailer::Optional)
    }
}

/// 10. Judges every commit of `main` after `from`, along first parents, up to and with `to`; returns them, oldest first.
///
/// `known` goes with `from`, and is brought on to `to`.
///
/// # Errors
/// `NOT_DESCENDANT`, `PARENT_UNSIGNED` for an unsigned commit below `to`, those of steps 9 and 11 for each, and
/// `PUSH_TOO_BIG` if together they add more than [`crate::limit`] allows.
pub(super) fn walk(
    git: &Git,
    from: &Judged,
    to: &ObjectId,
    judge: &Judge<'_>,
    known: &mut Known,
) -> Result<Vec<Commit>, Refusal> {
    let mut commits = Vec::new();
    let mut additions = Additions::new(git, &judge.trust.limits);
    for id in path(git, from, to)?.iter().rev() {
        let judged = judge.judge(git, id, known, &mut additions);
        let judged = judged.map_err(|refusal| match refusal.code {
            Code::AuthorUnsigned if id != to => Refusal::new(Code::ParentUnsigned, refusal.detail),
            _ => refusal,
        });
        commits.push(judged?);
    }
    Ok(commits)
}

/// The ids of the commits after `from` up to and with `to`, newest first.
pub(super) fn path(git: &Git, from: &Judged, to: &ObjectId) -> Result<Vec<ObjectId>, Refusal> {
    let until = match from {
        Judged::Nothing => None,
        Judged::Commit(id) => Some(id),
        Judged::Payload(payload) => {
            let mut path = git.first_parents(to, None)?;
            let vouched = path.iter().position(|id| has_payload(git, id, payload));
            let vouched = vouched.ok_or_else(|| {
                let detail =
                    format!("commit {to} does not descend from the anchor's payload {payload}");
                Refusal::new(Code::NotDescendant, detail)
            })?;
            path.truncate(vouched);
            return Ok(path);
        }
    };
    git.first_parents(to, until)
}

fn has_payload(git: &Git, id: &ObjectId, payload: &PayloadHash) -> bool {
    let raw = git.object(Kind::Commit, id, commit::MAX_BYTES);
    let commit = raw.and_then(|raw| Commit::parse(*id, &raw));
    commit.is_ok_and(|commit| commit.payload_hash() == *payload)
}

/// 10. The commit that a manifest names, `last` of a walk unless nothing was walked, has the payload that it names too.
fn check_payload(git: &Git, author: &Origin, last: Option<&Commit>) -> Result<(), Refusal> {
    let id = &author.commit;
    let payload = match last {
        Some(last) => last.payload_hash(),
        None => {
            let raw = git.object(Kind::Commit, id, commit::MAX_BYTES)?;
            Commit::parse(*id, &raw)?.payload_hash()
        }
    };
    if payload != author.payload {
        let detail = format!(
            "commit {id} has payload {payload}, admitted was {}",
            author.payload
        );
        return Err(Refusal::new(Code::PayloadMismatch, detail));
    }
    Ok(())
}

/// 10. `repository.yaml` says our domain.
pub(super) fn check_domain(git: &Git, domain: &Domain, commit: &ObjectId) -> Result<(), Refusal> {
    let (name, limit) = REPOSITORY;
    let file = Folder::of_commit(git, commit)?.file(name, limit)?;
    let files: Files = file
        .into_iter()
        .map(|bytes| (name.to_owned(), bytes.into()))
        .collect();
    let repository = render::repository(&files);
    let said = repository
        .map_err(|refusal| refusal.at(format_args!("commit {commit}")))?
        .domain;
    if said != *domain {
        let detail = format!("commit {commit}: {name} says domain {said}, expected {domain}");
        return Err(Refusal::new(Code::WrongDomain, detail));
    }
    Ok(())
}

/// The manifests whose commits of `main` are still to be judged, and from where.
#[derive(Debug)]
pub(super) struct MainLog {
    from: Judged,
    manifests: Vec<Admitted>,
    outcome: Outcome,
    /// The `repository.yaml` that was found to say our domain last.
    repository: Option<ObjectId>,
    known: Known,
}

/// As much of a manifest as judging its commits takes.
#[derive(Debug)]
struct Admitted {
    sequence: u64,
    trust: TrustRef,
    author: Origin,
}

/// How far a [`MainLog`] passed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The author of the last manifest that passed.
    pub(super) author: Option<Origin>,
    /// The first manifest that did not, and why.
    pub(super) refused: Option<(u64, Refusal)>,
}

impl MainLog {
    /// Begins after `main`, up to which all was judged well; goes back in the log from `entry`, at `mark`, to find it.
    pub(super) fn before(
        git: &Git,
        chain: &Chain,
        entry: Option<&Entry>,
        mark: &Mark,
        main: Option<&Origin>,
    ) -> Result<Self, Refusal> {
        let anchor = chain.newest().anchor.as_ref();
        let mut log = Self {
            from: Judged::Nothing,
            manifests: Vec::new(),
            outcome: Outcome::default(),
            repository: None,
            known: Known::default(),
        };
        let mut entry = entry.filter(|_| mark.next.is_none()).cloned();
        if let Some(anchor) = anchor.filter(|_| mark.next.is_some()) {
            log.from = Judged::Payload(anchor.main);
        }
        while let Some(at) = entry {
            if main.is_some_and(|main| main.commit == at.manifest.author.commit) {
                log.from = Judged::Commit(at.manifest.author.commit);
                break;
            }
            log.push(&at.manifest);
            if let Some(anchor) = anchor.filter(|anchor| anchor.next == at.manifest.sequence) {
                log.from = Judged::Payload(anchor.main);
                break;
            }
            entry = at.previous(git)?;
        }
        log.manifests.reverse();
        Ok(log)
    }

    /// Adds the next manifest.
    pub(super) fn push(&mut self, manifest: &Manifest) {
        self.manifests.push(Admitted {
            sequence: manifest.sequence,
            trust: manifest.trust,
            author: manifest.author.clone(),
        });
    }

    /// Judges what was added since, each commit at the first manifest whose author is or descends from it. `known` is
    /// what differs in the last author's tree, if that was looked for already.
    pub(super) fn advance(&mut self, git: &Git, chain: &Chain, known: Option<&Difference>) {
        for admitted in mem::take(&mut self.manifests) {
            if self.outcome.refused.is_some() {
                return;
            }
            match self.judge_one(git, chain, &admitted, known) {
                Ok(()) => {
                    self.from = Judged::Commit(admitted.author.commit);
                    self.outcome.author = Some(admitted.author);
                }
                Err(refusal) => self.outcome.refused = Some((admitted.sequence, refusal)),
            }
        }
    }

    /// Judges the rest, and says how far all of it passed.
    pub(super) fn judge(mut self, git: &Git, chain: &Chain) -> Outcome {
        self.advance(git, chain, None);
        self.outcome
    }

    fn judge_one(
        &mut self,
        git: &Git,
        chain: &Chain,
        admitted: &Admitted,
        known: Option<&Difference>,
    ) -> Result<(), Refusal> {
        let judge = Judge {
            trust: chain.get(&admitted.trust)?,
            newest: chain.newest(),
            sequence: admitted.sequence,
            known,
        };
        let author = &admitted.author;
        let walked = walk(git, &self.from, &author.commit, &judge, &mut self.known)?;
        check_payload(git, author, walked.last())?;
        let repository = Folder::of_commit(git, &author.commit)?.id(REPOSITORY.0);
        if repository.is_none() || repository != self.repository {
            check_domain(git, chain.domain(), &author.commit)?;
            self.repository = repository;
        }
        Ok(())
    }
}
