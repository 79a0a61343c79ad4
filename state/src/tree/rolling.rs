//! A tree that changes from commit to commit: what did not change is neither read nor hashed again, however large it
//! is. What an object's SHA-1, checked for collisions, names is not read twice.

use std::sync::{Arc, OnceLock};

use super::diff::{Change, File};
use super::object::{Entry, Mode};
use super::read::{Files, Folder, Limits, Objects, Reader, Snapshot};
use super::write::{add_entry, sha256};
use crate::digest::{ObjectId, TreeId};
use crate::git::Kind;
use crate::{Code, Refusal};

/// A tree that was read, from which another is reached by reading only what differs.
#[derive(Clone, Debug)]
pub(crate) struct Rolling {
    id: Option<ObjectId>,
    root: Arc<Directory>,
    snapshot: OnceLock<Snapshot>,
}

/// What differs between two trees.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The one; `None`: the empty tree.
    pub(crate) before: Option<ObjectId>,
    /// The other.
    pub(crate) after: ObjectId,
    /// As [`super::changes`] finds it.
    pub(crate) changes: Vec<Change>,
}

/// A directory with all that is below it.
#[derive(Debug)]
struct Directory {
    /// In git's order.
    nodes: Vec<Node>,
    files: u64,
    bytes: u64,
    sha256: [u8; 32],
}

#[derive(Clone, Debug)]
struct Node {
    entry: Arc<Entry>,
    sha256: [u8; 32],
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(Arc<[u8]>),
    Directory(Arc<Directory>),
}

impl Rolling {
    /// The empty tree.
    pub(crate) fn empty() -> Self {
        Self {
            id: None,
            root: Arc::new(Directory::of(Vec::new())),
            snapshot: OnceLock::new(),
        }
    }

    /// The SHA-256 id of the tree.
    pub(crate) fn sha256_id(&self) -> TreeId {
        TreeId(self.root.sha256)
    }

    /// The SHA-256 id of the tree without the files `left_out` of its root.
    pub(crate) fn id_without(&self, left_out: &[&str]) -> TreeId {
        let kept = self.root.nodes.iter().filter(|node| {
            node.entry.mode == Mode::Directory || !left_out.contains(&node.entry.name.as_str())
        });
        TreeId(hash(kept))
    }

    /// All its files.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.snapshot.get_or_init(|| {
            let mut snapshot = Snapshot {
                files: Files::new(),
                executable: Default::default(),
                id: self.sha256_id(),
            };
            self.root.add_to(&mut snapshot, "");
            snapshot
        })
    }

    /// The tree `root`, and what differs in it.
    ///
    /// # Errors
    /// Those of [`super::read`]; the limits hold for what is read, and for the tree.
    pub(crate) fn advanced(
        &self,
        objects: &dyn Objects,
        root: &ObjectId,
        limits: &Limits,
    ) -> Result<(Self, Difference), Refusal> {
        let difference = |changes| Difference {
            before: self.id,
            after: *root,
            changes,
        };
        if self.id == Some(*root) {
            return Ok((self.clone(), difference(Vec::new())));
        }
        let mut walk = Walk {
            reader: Reader::new(objects, limits),
            changes: Vec::new(),
        };
        let tree = walk.directory(Some(&self.root), root, &Folder::ROOT)?;
        if tree.files > limits.files || tree.bytes > limits.bytes.0 {
            let detail = format!(
                "{} files of {} bytes, at most {} of {} are allowed",
                tree.files, tree.bytes, limits.files, limits.bytes
            );
            return Err(Refusal::new(Code::TreeTooBig, detail));
        }
        walk.changes.sort_by(|a, b| a.path.cmp(&b.path));
        let advanced = Self {
            id: Some(*root),
            root: tree,
            snapshot: OnceLock::new(),
        };
        Ok((advanced, difference(walk.changes)))
    }
}

impl Directory {
    fn of(nodes: Vec<Node>) -> Self {
        let (mut files, mut bytes) = (0_u64, 0_u64);
        for node in &nodes {
            let (more, size) = match &node.content {
                Content::File(content) => (1, content.len() as u64),
                Content::Directory(directory) => (directory.files, directory.bytes),
            };
            files = files.saturating_add(more);
            bytes = bytes.saturating_add(size);
        }
        Self {
            files,
            bytes,
            sha256: hash(nodes.iter()),
            nodes,
        }
    }

    /// Adds the files of this directory, whose path is `prefix` with a final `/`.
    fn add_to(&self, snapshot: &mut Snapshot, prefix: &str) {
        for node in &self.nodes {
            let path = format!("{prefix}{}", node.entry.name);
            match &node.content {
                Content::Directory(directory) => directory.add_to(snapshot, &format!("{path}/")),
                Content::File(bytes) => {
                    if node.entry.mode == Mode::Executable {
                        snapshot.executable.insert(path.clone());
                    }
                    snapshot.files.insert(path, Arc::clone(bytes));
                }
            }
        }
    }
}

/// The SHA-256 id of a directory of these nodes.
fn hash<'a>(nodes: impl Iterator<Item = &'a Node>) -> [u8; 32] {
    let mut raw = Vec::with_capacity(4 << 10); // enough for most folders
    for node in nodes {
        add_entry(&mut raw, node.entry.mode, &node.entry.name, &node.sha256);
    }
    sha256(Kind::Tree, &raw)
}

/// On the way from one tree to another.
struct Walk<'a> {
    reader: Reader<'a>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    /// The directory whose tree is `id`, which was `before`.
    fn directory(
        &mut self,
        before: Option<&Directory>,
        id: &ObjectId,
        folder: &Folder,
    ) -> Result<Arc<Directory>, Refusal> {
        let entries = self.reader.entries(id, folder)?;
        let before = before.map_or(&[][..], |directory| &directory.nodes);
        let mut before = before.iter().peekable();
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            // Both are in git's order: what stands before this entry is gone.
            while let Some(gone) = before.next_if(|node| node.entry.order(&entry).is_lt()) {
                self.removed(gone, folder)?;
            }
            let same = before.next_if(|node| node.entry.order(&entry).is_eq());
            nodes.push(match same {
                Some(same) if *same.entry == entry => same.clone(),
                same => self.changed(same, entry, folder)?,
            });
        }
        for gone in before {
            self.removed(gone, folder)?;
        }
        Ok(Arc::new(Directory::of(nodes)))
    }

    /// Reads what `entry` of `folder` names, which was `before`.
    fn changed(
        &mut self,
        before: Option<&Node>,
        entry: Entry,
        folder: &Folder,
    ) -> Result<Node, Refusal> {
        let (sha256, content) = if entry.mode == Mode::Directory {
            let before = match before.map(|node| &node.content) {
                Some(Content::Directory(directory)) => Some(directory.as_ref()),
                _ => None,
            };
            let inside = folder.enter(&entry.name)?;
            let directory = self.directory(before, &entry.id, &inside)?;
            (directory.sha256, Content::Directory(directory))
        } else {
            let path = folder.path_of(&entry.name);
            let read = self.reader.blob(&entry.id);
            let bytes: Arc<[u8]> = read.map_err(|refusal| refusal.at(&path))?.into();
            let sha256 = sha256(Kind::Blob, &bytes);
            let content = Content::File(Arc::clone(&bytes));
            self.changes.push(Change {
                path,
                before: before.and_then(Node::file),
                after: Some(File {
                    executable: entry.mode == Mode::Executable,
                    bytes,
                }),
            });
            (sha256, content)
        };
        Ok(Node {
            entry: Arc::new(entry),
            sha256,
            content,
        })
    }

    /// Notes the files of a node that is gone.
    fn removed(&mut self, node: &Node, folder: &Folder) -> Result<(), Refusal> {
        match &node.content {
            Content::Directory(directory) => {
                let inside = folder.enter(&node.entry.name)?;
                let mut nodes = directory.nodes.iter();
                nodes.try_for_each(|node| self.removed(node, &inside))?;
            }
            Content::File(_) => self.changes.push(Change {
                path: folder.path_of(&node.entry.name),
                before: node.file(),
                after: None,
            }),
        }
        Ok(())
    }
}

impl Node {
    fn file(&self) -> Option<File> {
        match &self.content {
            Content::File(bytes) => Some(File {
                executable: self.entry.mode == Mode::Executable,
                bytes: Arc::clone(bytes),
            }),
            Content::Directory(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::git::Git;
    use crate::tree;
    use crate::unit::Bytes;

    const LIMITS: Limits = Limits {
        files: 100,
        bytes: Bytes(10_000),
    };

    /// Notes which objects are read.
    struct Noted<'a>(&'a Git, RefCell<Vec<ObjectId>>);

    impl Objects for Noted<'_> {
        fn object(&self, kind: Kind, id: &ObjectId, limit: u64) -> Result<Vec<u8>, Refusal> {
            self.1.borrow_mut().push(*id);
            self.0.object(kind, id, limit)
        }
    }

    /// Files of few names, contents and levels, none inside another, so that two trees have much in common.
    fn trees() -> impl Strategy<Value = Files> {
        let path = prop::collection::vec("[ab]([-.0]b)?", 1..4).prop_map(|parts| parts.join("/"));
        prop::collection::btree_map(path, "[xy]", 0..10).prop_map(|files| {
            let inside = |path: &String, other: &String| other.starts_with(&format!("{path}/"));
            let all: Vec<String> = files.keys().cloned().collect();
            let files: BTreeMap<_, _> = files
                .into_iter()
                .filter(|(path, _)| !all.iter().any(|other| inside(path, other)))
                .collect();
            let bytes = |(path, text): (String, String)| (path, text.into_bytes().into());
            files.into_iter().map(bytes).collect()
        })
    }

    proptest! {
        #[test]
        fn every_way_to_a_tree_ends_in_the_tree_that_is_read_at_once(
            all in prop::collection::vec(trees(), 1..5)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let git = Git::init_bare(folder.path()).unwrap();
            let mut rolling = Rolling::empty();
            let mut before = None;
            for files in &all {
                let root = tree::write(files, |kind, bytes| git.write(kind, bytes)).unwrap();
                let (next, found) = rolling.advanced(&git, &root, &LIMITS).unwrap();
                prop_assert_eq!(next.snapshot(), &tree::read(&git, &root, &LIMITS).unwrap());
                prop_assert_eq!((found.before, found.after), (before, root));
                prop_assert_eq!(
                    found.changes,
                    tree::changes(&git, before.as_ref(), &root, &LIMITS).unwrap()
                );
                for left_out in [&["a"][..], &["a", "b"]] {
                    prop_assert_eq!(
                        next.id_without(left_out),
                        next.snapshot().id_without(left_out)
                    );
                }
                (rolling, before) = (next, Some(root));
            }
        }
    }

    #[test]
    fn what_is_equal_is_not_read_and_counts_towards_the_limits() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::init_bare(folder.path()).unwrap();
        let file = |path: &str, bytes: usize| (path.to_owned(), vec![b'x'; bytes].into());
        let mut files = Files::from([file("same/deep", 5000), file("other", 1)]);
        let write = |files: &Files| tree::write(files, |kind, bytes| git.write(kind, bytes));
        let first = write(&files).unwrap();
        let (rolling, _) = Rolling::empty().advanced(&git, &first, &LIMITS).unwrap();
        files.extend([file("other", 2)]);
        let second = write(&files).unwrap();
        let noted = Noted(&git, RefCell::default());
        let (rolling, found) = rolling.advanced(&noted, &second, &LIMITS).unwrap();
        assert_eq!(found.changes.len(), 1);
        assert_eq!(noted.1.borrow().len(), 2, "the root and the file");
        files.extend([file("other", 6000)]);
        let refusal = rolling
            .advanced(&git, &write(&files).unwrap(), &LIMITS)
            .unwrap_err();
        assert_eq!(refusal.code, Code::TreeTooBig, "{refusal}");
    }
}
