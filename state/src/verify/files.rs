//! What verification reads over and over: the root folder of a commit, and a tree that changes from commit to commit.

use crate::commit::{self, Links};
use crate::digest::ObjectId;
use crate::git::{Git, Kind};
use crate::tree::{self, Change, Entry, Files, Limits, Mode, Objects as _, Snapshot};
use crate::{Code, Refusal};

/// The most bytes of one tree object that are read before a trust file's limits are known.
const MAX_TREE: u64 = 4 << 20;

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
        let raw = git.object(Kind::Tree, tree, MAX_TREE)?;
        let entries = tree::parse(&raw)?;
        Ok(Self { git, entries })
    }

    /// The content of the file `name`, of at most `limit` bytes.
    pub(super) fn file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Refusal> {
        let mut entries = self.entries.iter();
        let found = entries.find(|entry| entry.name == name && entry.mode != Mode::Directory);
        found
            .map(|entry| self.git.object(Kind::Blob, &entry.id, limit))
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

/// A tree that was read, from which another is reached by reading only what differs: what an object's SHA-1, checked
/// for collisions, names is not read twice.
#[derive(Clone, Debug)]
pub(super) struct Rolling {
    root: Option<ObjectId>,
    snapshot: Snapshot,
}

impl Rolling {
    /// The empty tree.
    pub(super) fn empty() -> Self {
        let files = Files::new();
        let id = tree::sha256_id(&files);
        let executable = Default::default();
        Self {
            root: None,
            snapshot: Snapshot {
                files,
                executable,
                id,
            },
        }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// The tree `root`, and what differs in it.
    pub(super) fn advanced(
        &self,
        git: &Git,
        root: &ObjectId,
        limits: &Limits,
    ) -> Result<(Self, Vec<Change>), Refusal> {
        if self.root == Some(*root) {
            return Ok((self.clone(), Vec::new()));
        }
        let changes = tree::changes(git, self.root.as_ref(), root, limits)?;
        let mut snapshot = self.snapshot.clone();
        for change in &changes {
            snapshot.executable.remove(&change.path);
            let Some(file) = &change.after else {
                snapshot.files.remove(&change.path);
                continue;
            };
            if file.executable {
                snapshot.executable.insert(change.path.clone());
            }
            snapshot
                .files
                .insert(change.path.clone(), file.bytes.as_slice().into());
        }
        check_limits(&snapshot.files, limits)?;
        snapshot.id = snapshot.id_without(&[]);
        let root = Some(*root);
        Ok((Self { root, snapshot }, changes))
    }
}

/// Checks the whole of a tree of which only a part was read.
fn check_limits(files: &Files, limits: &Limits) -> Result<(), Refusal> {
    let bytes: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    let count = files.len() as u64;
    if count > limits.files || bytes > limits.bytes.0 {
        let detail = format!(
            "{count} files of {bytes} bytes, at most {} of {} are allowed",
            limits.files, limits.bytes
        );
        return Err(Refusal::new(Code::TreeTooBig, detail));
    }
    Ok(())
}
