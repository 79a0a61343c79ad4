//! Who had a part in a change: the signers of the commits of `main` from which its inputs came.
//!
//! Along first parents the signer of each commit answers for its whole difference to its first parent. What a merge
//! brought in by its other parents counts for those who signed it there, so that nobody approves his own work because
//! somebody else merged it.

use std::collections::{BTreeMap, BTreeSet};

use crate::commit::{self, Commit, Links};
use crate::digest::ObjectId;
use crate::git::{Git, Kind};
use crate::manifest::{Change, Subject};
use crate::name::Label;
use crate::sshsig::Namespace;
use crate::tree::{Mode, Objects as _};
use crate::{Code, Refusal};

use super::chain::Chain;
use super::files::{entry_at, links};

/// The most commits that are looked at for one change.
const MAX_COMMITS: usize = 50_000;

/// What lies at each of the inputs' paths in one tree.
type Found = Vec<Option<(Mode, ObjectId)>>;

/// The names of those who signed a commit that is or came into `main` after `from` (`None`: ever) up to `to`, and that
/// touches what the release or the rules at the place of `change` are rendered from.
///
/// # Errors
/// `APPROVAL_MISSING` if that takes too many commits to find out; `NOT_DESCENDANT`.
pub(super) fn signers(
    git: &Git,
    chain: &Chain,
    change: &Change,
    from: Option<&ObjectId>,
    to: &ObjectId,
) -> Result<BTreeSet<Label>, Refusal> {
    let mut walk = Walk {
        git,
        inputs: inputs(change),
        links: BTreeMap::new(),
        found: BTreeMap::new(),
    };
    let mut names = BTreeSet::new();
    let main = walk.main(from, to)?;
    let mut others = Vec::new();
    for id in &main {
        let links = walk.links(id)?;
        let (first, rest) = match links.parents.split_first() {
            Some((first, rest)) => (Some(*first), rest),
            None => (None, &[][..]),
        };
        if walk.touches(&links, first.as_slice())? {
            names.extend(signed_by(git, chain, id));
        }
        others.extend_from_slice(rest);
    }
    if others.is_empty() {
        return Ok(names);
    }
    let mut seen = walk.ancestors(from)?;
    seen.extend(main);
    while let Some(id) = others.pop() {
        if !seen.insert(id) {
            continue;
        }
        let links = walk.links(&id)?;
        if walk.touches(&links, &links.parents)? {
            names.extend(signed_by(git, chain, &id));
        }
        others.extend(&links.parents);
    }
    Ok(names)
}

/// The files and folders that a release or the rules are rendered from.
fn inputs(change: &Change) -> Vec<String> {
    let environment = &change.environment;
    let rules = format!("environments/{environment}/environment.yaml");
    match &change.subject {
        Subject::Rules => vec![rules],
        Subject::Service(service) => vec![
            rules,
            format!("environments/{environment}/{service}.yaml"),
            format!("services/{service}"),
        ],
    }
}

/// The names that the signer of a commit ever had; none if nobody signed it.
fn signed_by(git: &Git, chain: &Chain, id: &ObjectId) -> BTreeSet<Label> {
    let raw = git.object(Kind::Commit, id, commit::MAX_BYTES);
    let Ok(commit) = raw.and_then(|raw| Commit::parse(*id, &raw)) else {
        return BTreeSet::new();
    };
    let signature = &commit.signature;
    if signature.verify(Namespace::Git, commit.payload()).is_err() {
        return BTreeSet::new();
    }
    let authors = chain.versions().flat_map(|trust| &trust.authors);
    let with_key = authors.filter(|author| author.key == *signature.key());
    with_key.map(|author| author.name.clone()).collect()
}

struct Walk<'a> {
    git: &'a Git,
    inputs: Vec<String>,
    links: BTreeMap<ObjectId, Links>,
    found: BTreeMap<ObjectId, Found>,
}

impl Walk<'_> {
    /// The commits of `main` after `from` up to and with `to`, newest first.
    fn main(&mut self, from: Option<&ObjectId>, to: &ObjectId) -> Result<Vec<ObjectId>, Refusal> {
        let mut commits = Vec::new();
        let mut next = Some(*to);
        while let Some(id) = next.filter(|id| Some(id) != from) {
            next = self.links(&id)?.parents.first().copied();
            commits.push(id);
        }
        match (next, from) {
            (None, Some(from)) => {
                let detail = format!("commit {to} does not descend from {from}");
                Err(Refusal::new(Code::NotDescendant, detail))
            }
            _ => Ok(commits),
        }
    }

    /// The commits that were part of `main` when `from` was its tip.
    fn ancestors(&mut self, from: Option<&ObjectId>) -> Result<BTreeSet<ObjectId>, Refusal> {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<_> = from.copied().into_iter().collect();
        while let Some(id) = queue.pop() {
            if seen.insert(id) {
                queue.extend(self.links(&id)?.parents);
            }
        }
        Ok(seen)
    }

    /// Says whether the inputs differ from those of every one of `parents`; without parents, whether there are any.
    fn touches(&mut self, links: &Links, parents: &[ObjectId]) -> Result<bool, Refusal> {
        let here = self.found(&links.tree)?;
        for parent in parents {
            let tree = self.links(parent)?.tree;
            if self.found(&tree)? == here {
                return Ok(false);
            }
        }
        Ok(!parents.is_empty() || here.iter().any(Option::is_some))
    }

    fn links(&mut self, id: &ObjectId) -> Result<Links, Refusal> {
        if let Some(links) = self.links.get(id) {
            return Ok(links.clone());
        }
        if self.links.len() == MAX_COMMITS {
            let detail =
                format!("who had a part in the change is not found within {MAX_COMMITS} commits");
            return Err(Refusal::new(Code::ApprovalMissing, detail));
        }
        let links = links(self.git, id)?;
        self.links.insert(*id, links.clone());
        Ok(links)
    }

    fn found(&mut self, tree: &ObjectId) -> Result<Found, Refusal> {
        if let Some(found) = self.found.get(tree) {
            return Ok(found.clone());
        }
        let entry = |path: &String| {
            let entry = entry_at(self.git, tree, path)?;
            Ok(entry.map(|entry| (entry.mode, entry.id)))
        };
        let found: Found = self
            .inputs
            .iter()
            .map(entry)
            .collect::<Result<_, Refusal>>()?;
        self.found.insert(*tree, found.clone());
        Ok(found)
    }
}
