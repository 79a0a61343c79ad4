//! What verification reads over and over: what a commit points to, and the files in its root.

use crate::commit::{self, Links};
use crate::digest::ObjectId;
use crate::git::{Git, Kind};
use crate::tree::{self, Entry, Mode, Objects as _};
use crate::{Refusal, limit};

/// The most files of one folder that are read: more than a trust file has authors.
const MAX_FILES: usize = 2_000;

/// What a commit points to.
pub(super) fn links(git: &Git, commit: &ObjectId) -> Result<Links, Refusal> {
    let raw = git.object(Kind::Commit, commit, commit::MAX_BYTES)?;
    Links::parse(&raw).map_err(|refusal| refusal.at(format_args!("commit {commit}")))
}

/// The files in the root of a tree, read one by one.
pub(super) struct Folder<'a> {
    git: &'a Git,
    entries: Vec<Entry>,
}

impl<'a> Folder<'a> {
    pub(super) fn of_commit(git: &'a Git, commit: &ObjectId) -> Result<Self, Refusal> {
        Self::of_tree(git, &links(git, commit)?.tree)
    }

    pub(super) fn of_tree(git: &'a Git, tree: &ObjectId) -> Result<Self, Refusal> {
        let raw = git.object(Kind::Tree, tree, limit::OBJECT)?;
        let entries = tree::parse(&raw)?;
        Ok(Self { git, entries })
    }

    /// The folder at `path` below the tree of `commit`; `None` if there is none.
    pub(super) fn at(git: &'a Git, commit: &ObjectId, path: &str) -> Result<Option<Self>, Refusal> {
        let entry = entry_at(git, &links(git, commit)?.tree, path)?;
        let folder = entry.filter(|entry| entry.mode == Mode::Directory);
        folder
            .map(|entry| Self::of_tree(git, &entry.id))
            .transpose()
    }

    /// The id of the file `name`.
    pub(super) fn id(&self, name: &str) -> Option<ObjectId> {
        let mut entries = self.entries.iter();
        let found = entries.find(|entry| entry.name == name && entry.mode != Mode::Directory);
        found.map(|entry| entry.id)
    }

    /// The content of the file `name`, of at most `limit` bytes.
    pub(super) fn file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Refusal> {
        self.id(name)
            .map(|id| self.git.object(Kind::Blob, &id, limit))
            .transpose()
            .map_err(|refusal| refusal.at(format_args!("'{name}'")))
    }
}

/// The entry at `path` below the tree `root`; `None` if there is none.
pub(super) fn entry_at(git: &Git, root: &ObjectId, path: &str) -> Result<Option<Entry>, Refusal> {
    let mut names = path.split('/').peekable();
    let mut tree = *root;
    while let Some(name) = names.next() {
        let entries = Folder::of_tree(git, &tree)?.entries;
        match entries.into_iter().find(|entry| entry.name == name) {
            Some(entry) if names.peek().is_none() => return Ok(Some(entry)),
            Some(entry) if entry.mode == Mode::Directory => tree = entry.id,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// The files in the folder at `path` below the tree `root`, each of at most `limit` bytes; none if it is not there.
pub(super) fn folder_at(
    git: &Git,
    root: &ObjectId,
    path: &str,
    limit: u64,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let Some(found) = entry_at(git, root, path.trim_end_matches('/'))? else {
        return Ok(Vec::new());
    };
    if found.mode != Mode::Directory {
        return Ok(Vec::new());
    }
    let entries = Folder::of_tree(git, &found.id)?.entries.into_iter();
    let files = entries.filter(|entry| entry.mode != Mode::Directory);
    let read = |entry: Entry| Ok((entry.name, git.object(Kind::Blob, &entry.id, limit)?));
    files.take(MAX_FILES).map(read).collect()
}

/// The content of the file at `path` below the tree `root`, of at most `limit` bytes.
pub(super) fn file_at(
    git: &Git,
    root: &ObjectId,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, Refusal> {
    let entry = entry_at(git, root, path)?;
    let file = entry.filter(|entry| entry.mode != Mode::Directory);
    file.map(|entry| git.object(Kind::Blob, &entry.id, limit))
        .transpose()
}
