//! What commits of `main` add to what hosts have: every object that no parent has, over all parents.

use std::collections::{BTreeMap, BTreeSet};

use crate::commit::Links;
use crate::digest::ObjectId;
use crate::git::{Git, Kind};
use crate::limit::{self, Budget};
use crate::tree::{self, Entry, Limits, Mode, Objects as _};
use crate::{Code, Refusal};

use super::files::{entry_at, links};

/// The commits at and below the one that was judged last, over all parents; found out when a merge asks for it.
#[derive(Debug, Default)]
pub(super) struct Known(Option<BTreeSet<ObjectId>>);

impl Known {
    /// Takes note of a commit that was judged, with the side that it merged.
    pub(super) fn add(&mut self, commits: impl IntoIterator<Item = ObjectId>) {
        if let Some(known) = &mut self.0 {
            known.extend(commits);
        }
    }

    /// The commits of the sides that `commit` merges, newest first: those over its other parents that its first parent
    /// does not have.
    ///
    /// # Errors
    /// `PUSH_TOO_BIG`, and those of reading commits.
    pub(super) fn sides(
        &mut self,
        git: &Git,
        commit: &Links,
    ) -> Result<Vec<(ObjectId, Links)>, Refusal> {
        let [first, others @ ..] = &commit.parents[..] else {
            return Ok(Vec::new());
        };
        limit::within(
            "parents of a commit",
            commit.parents.len() as u64,
            limit::PARENTS as u64,
        )?;
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let known = match &mut self.0 {
            Some(known) => known,
            None => self.0.insert(git.ancestors(first)?),
        };
        let (mut sides, mut seen) = (Vec::new(), BTreeSet::new());
        let mut queue = others.to_vec();
        while let Some(id) = queue.pop() {
            if known.contains(&id) || !seen.insert(id) {
                continue;
            }
            limit::within("new commits", seen.len() as u64, limit::COMMITS)?;
            let size = git.size(&id)?;
            let at = |refusal: Refusal| refusal.at(format_args!("commit {id}, which is merged"));
            limit::within("bytes in a commit", size, limit::COMMIT).map_err(at)?;
            let raw = git.object(Kind::Commit, &id, limit::COMMIT)?;
            let links = Links::parse_exact(&raw).map_err(at)?;
            queue.extend(&links.parents);
            sides.push((id, links));
        }
        Ok(sides)
    }
}

/// The objects that were added so far.
pub(super) struct Additions<'a> {
    git: &'a Git,
    budget: Budget,
    /// Trees and files that were counted.
    seen: BTreeSet<ObjectId>,
}

impl<'a> Additions<'a> {
    pub(super) fn new(git: &'a Git, limits: &Limits) -> Self {
        Self {
            git,
            budget: Budget::new(limits),
            seen: BTreeSet::new(),
        }
    }

    /// Counts the commit `id`, which points to `links`, and what its tree has that no parent's tree has in its place.
    ///
    /// # Errors
    /// `PUSH_TOO_BIG`, `OBJECT_MISSING`, and those of [`tree::parse`].
    pub(super) fn count(&mut self, id: &ObjectId, links: &Links) -> Result<(), Refusal> {
        let at = |refusal: Refusal| refusal.at(format_args!("commit {id}"));
        limit::within(
            "parents of a commit",
            links.parents.len() as u64,
            limit::PARENTS as u64,
        )
        .map_err(at)?;
        self.budget.commit(self.git.size(id)?).map_err(at)?;
        let parents = links.parents.iter();
        let parents = parents.map(|parent| Ok(self::links(self.git, parent)?.tree));
        let parents = parents.collect::<Result<Vec<_>, Refusal>>()?;
        self.folder(&links.tree, &parents, 1).map_err(at)
    }

    /// Counts the tree `id`, which stands where its parents have the trees `parents`, with all that is new in it.
    fn folder(&mut self, id: &ObjectId, parents: &[ObjectId], depth: usize) -> Result<(), Refusal> {
        if parents.contains(id) || !self.seen.insert(*id) {
            return Ok(());
        }
        if depth > limit::DEPTH {
            let detail = format!("a folder is deeper than {} components", limit::DEPTH);
            return Err(Refusal::new(Code::PathRefused, detail));
        }
        self.budget.tree(self.git.size(id)?)?;
        let entries = self.entries(id)?;
        let before = parents.iter().map(|parent| {
            let entries = self.entries(parent)?.into_iter();
            Ok(entries.map(|entry| (entry.name.clone(), entry)).collect())
        });
        let before = before.collect::<Result<Vec<BTreeMap<String, Entry>>, Refusal>>()?;
        for entry in entries {
            let there = before.iter().filter_map(|tree| tree.get(&entry.name));
            if there.clone().any(|before| before.id == entry.id) {
                continue;
            }
            if entry.mode == Mode::Directory {
                let trees = there.filter(|before| before.mode == Mode::Directory);
                let trees: Vec<_> = trees.map(|before| before.id).collect();
                self.folder(&entry.id, &trees, depth + 1)?;
            } else if self.seen.insert(entry.id) {
                let counted = self.budget.file(self.git.size(&entry.id)?);
                counted.map_err(|refusal| refusal.at(format_args!("'{}'", entry.name)))?;
            }
        }
        Ok(())
    }

    fn entries(&self, id: &ObjectId) -> Result<Vec<Entry>, Refusal> {
        tree::parse(&self.git.object(Kind::Tree, id, limit::OBJECT)?)
    }
}

/// What a commit changes that no parent has in its place: in a merge, what was made up there.
///
/// # Errors
/// Those of [`tree::changes`].
pub(super) fn side_changes(
    git: &Git,
    commit: &Links,
    limits: &Limits,
) -> Result<Vec<tree::Change>, Refusal> {
    let parents = commit.parents.iter();
    let parents = parents.map(|parent| Ok(links(git, parent)?.tree));
    let parents = parents.collect::<Result<Vec<_>, Refusal>>()?;
    let mut changes = tree::changes(git, parents.first(), &commit.tree, limits)?;
    for other in parents.iter().skip(1) {
        let mut own = Vec::new();
        for change in changes {
            let at = |tree| Ok(entry_at(git, tree, &change.path)?.map(|entry| entry.id));
            let (before, after): (Option<_>, Option<_>) = (at(other)?, at(&commit.tree)?);
            if before != after {
                own.push(change);
            }
        }
        changes = own;
    }
    Ok(changes)
}
