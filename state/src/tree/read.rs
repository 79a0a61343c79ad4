//! All files of a tree, within limits that are checked before anything large is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::object::{Entry, Mode, parse};
use super::write::{Leaf, hash};
use crate::digest::{ObjectId, TreeId};
use crate::git::Kind;
use crate::unit::Bytes;
use crate::{Code, Refusal, limit};

/// Where objects are read from.
pub trait Objects {
    /// The raw bytes of the object `id`, re-hashed, at most `limit` of them.
    ///
    /// # Errors
    /// `OBJECT_MISSING`, `OBJECT_CORRUPT` (another kind too), `SHA1_COLLISION`; `TREE_TOO_BIG` if the object's
    /// header announces more than `limit` bytes, before they are loaded.
    fn object(&self, kind: Kind, id: &ObjectId, limit: u64) -> Result<Vec<u8>, Refusal>;
}

/// How large a tree may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Files.
    pub files: u64,
    /// Bytes of all its files and tree objects together.
    pub bytes: Bytes,
}

/// The contents of files by path (components joined by `/`).
pub type Files = BTreeMap<String, Arc<[u8]>>;

/// All files of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Their contents.
    pub files: Files,
    /// The paths of those with mode 100755.
    pub executable: BTreeSet<String>,
    /// The SHA-256 id of the tree.
    pub id: TreeId,
}

impl Snapshot {
    /// The SHA-256 id of the tree without the files `left_out` of its root.
    pub fn id_without(&self, left_out: &[&str]) -> TreeId {
        let kept = self
            .files
            .iter()
            .filter(|(path, _)| !left_out.contains(&path.as_str()));
        let leaves = kept.map(|(path, bytes)| Leaf {
            path,
            executable: self.executable.contains(path),
            bytes,
        });
        hash(&leaves.collect::<Vec<_>>())
    }
}

/// Reads the tree `root` with everything below it.
///
/// # Errors
/// Those of [`parse`] and [`Objects::object`]; `PATH_REFUSED` if it is too deep, `TREE_TOO_BIG`.
pub fn read(objects: &dyn Objects, root: &ObjectId, limits: &Limits) -> Result<Snapshot, Refusal> {
    let mut snapshot = Snapshot {
        files: Files::new(),
        executable: BTreeSet::new(),
        id: TreeId([0; 32]),
    };
    let mut reader = Reader::new(objects, limits);
    add(&mut reader, root, &Folder::ROOT, &mut snapshot)?;
    snapshot.id = snapshot.id_without(&[]);
    Ok(snapshot)
}

/// Reads the tree `id` of `folder` into `snapshot`.
fn add(
    reader: &mut Reader<'_>,
    id: &ObjectId,
    folder: &Folder,
    snapshot: &mut Snapshot,
) -> Result<(), Refusal> {
    for entry in reader.entries(id, folder)? {
        if entry.mode == Mode::Directory {
            add(reader, &entry.id, &folder.enter(&entry.name)?, snapshot)?;
            continue;
        }
        let path = folder.path_of(&entry.name);
        let bytes = reader
            .blob(&entry.id)
            .map_err(|refusal| refusal.at(&path))?;
        if entry.mode == Mode::Executable {
            snapshot.executable.insert(path.clone());
        }
        snapshot.files.insert(path, bytes.into());
    }
    Ok(())
}

/// A directory on the way down: its path with a final `/`, or nothing at the root.
pub(super) struct Folder {
    path: String,
    depth: usize,
}

impl Folder {
    pub(super) const ROOT: Self = Self {
        path: String::new(),
        depth: 0,
    };

    /// The path of a file or directory in it.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// The directory `name` in it, if what is in that is not too deep.
    pub(super) fn enter(&self, name: &str) -> Result<Self, Refusal> {
        let path = format!("{}{name}/", self.path);
        let depth = self.depth + 1;
        if depth == limit::DEPTH {
            let detail = format!("{path} is deeper than {} components", limit::DEPTH);
            return Err(Refusal::new(Code::PathRefused, detail));
        }
        Ok(Self { path, depth })
    }
}

/// Reads the objects of one tree and counts what it has read.
pub(super) struct Reader<'a> {
    objects: &'a dyn Objects,
    limits: &'a Limits,
    files: u64,
    bytes: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(objects: &'a dyn Objects, limits: &'a Limits) -> Self {
        Self {
            objects,
            limits,
            files: 0,
            bytes: 0,
        }
    }

    /// The entries of the directory `folder`, whose tree is `id`.
    pub(super) fn entries(
        &mut self,
        id: &ObjectId,
        folder: &Folder,
    ) -> Result<Vec<Entry>, Refusal> {
        let place = if folder.depth == 0 {
            "tree"
        } else {
            folder.path.as_str()
        };
        let read = |reader: &mut Self| {
            let entries = parse(&reader.object(Kind::Tree, id)?)?;
            // Git never writes an empty directory; each tree object thus stands for a file that is counted.
            if entries.is_empty() && folder.depth > 0 {
                return Err(Refusal::new(Code::TreeMalformed, "the directory is empty"));
            }
            Ok(entries)
        };
        read(self).map_err(|refusal| refusal.at(place))
    }

    /// The content of a file.
    pub(super) fn blob(&mut self, id: &ObjectId) -> Result<Vec<u8>, Refusal> {
        self.files += 1;
        if self.files > self.limits.files {
            let detail = format!("more than {} files", self.limits.files);
            return Err(Refusal::new(Code::TreeTooBig, detail));
        }
        self.object(Kind::Blob, id)
    }

    fn object(&mut self, kind: Kind, id: &ObjectId) -> Result<Vec<u8>, Refusal> {
        let left = self.limits.bytes.0.saturating_sub(self.bytes);
        let bytes = self
            .objects
            .object(kind, id, left.min(limit::OBJECT))
            .map_err(|refusal| match refusal.code {
                Code::TreeTooBig if left < limit::OBJECT => {
                    let detail = format!("more than {} in all", self.limits.bytes);
                    Refusal::new(Code::TreeTooBig, detail)
                }
                _ => refusal,
            })?;
        self.bytes += bytes.len() as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Git;
    use crate::oracle::Oracle;

    const LIMITS: Limits = Limits {
        files: 3,
        bytes: Bytes(1000),
    };

    /// A repository and the tree of what `git add` finds in it.
    fn added(oracle: &Oracle) -> (Git, ObjectId) {
        oracle.run("git", &["init", "-q"]);
        oracle.run("git", &["add", "-A"]);
        let root = oracle.run("git", &["write-tree"]).parse().unwrap();
        (Git::open(oracle.path()).unwrap(), root)
    }

    fn code(oracle: &Oracle) -> Option<Code> {
        let (git, root) = added(oracle);
        read(&git, &root, &LIMITS).err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_tree_with_too_many_files_or_bytes_is_refused() {
        let oracle = Oracle::new();
        for path in ["a", "b/c", "b/d"] {
            oracle.write(path, path);
        }
        assert_eq!(code(&oracle), None);
        oracle.write("b/e", "e");
        assert_eq!(code(&oracle), Some(Code::TreeTooBig));
        let oracle = Oracle::new();
        oracle.write("a", [0; 600]);
        assert_eq!(code(&oracle), None);
        oracle.write("b", [0; 600]);
        assert_eq!(
            code(&oracle),
            Some(Code::TreeTooBig),
            "the same bytes count twice"
        );
    }

    #[test]
    fn links_and_paths_that_are_too_deep_are_refused() {
        let oracle = Oracle::new();
        oracle.write(&format!("{}file", "d/".repeat(15)), "x");
        assert_eq!(code(&oracle), None);
        oracle.write(&format!("{}file", "d/".repeat(16)), "x");
        assert_eq!(code(&oracle), Some(Code::PathRefused));
        let oracle = Oracle::new();
        std::os::unix::fs::symlink("/etc/passwd", oracle.path().join("link")).unwrap();
        assert_eq!(code(&oracle), Some(Code::SymlinkRefused));
    }

    #[test]
    fn an_empty_tree_is_read_and_an_empty_directory_refused() {
        let oracle = Oracle::new();
        assert_eq!(code(&oracle), None);
        let (git, empty) = added(&oracle);
        let raw = [b"40000 a\0", &empty.0[..]].concat();
        let root = git.write(Kind::Tree, &raw).unwrap();
        let refusal = read(&git, &root, &LIMITS).unwrap_err();
        assert_eq!(refusal.code, Code::TreeMalformed);
    }

    #[test]
    fn a_tree_that_names_itself_many_times_is_stopped_by_the_limits() {
        let oracle = Oracle::new();
        oracle.write("file", "x");
        let (git, mut tree) = added(&oracle);
        for _ in 0..15 {
            let entry = |name: u8| [b"40000 ", &[name][..], b"\0", &tree.0].concat();
            let raw: Vec<u8> = (b'a'..=b'z').flat_map(entry).collect();
            tree = git.write(Kind::Tree, &raw).unwrap();
        }
        let limits = Limits {
            files: 20_000,
            bytes: Bytes(64 << 20),
        };
        assert_eq!(
            read(&git, &tree, &limits).unwrap_err().code,
            Code::TreeTooBig
        );
    }
}
