//! From files to tree objects, and to git's SHA-256 id of the same content.

use std::convert::Infallible;

use sha2::{Digest as _, Sha256};

use super::{Files, Mode};
use crate::Refusal;
use crate::digest::{ObjectId, TreeId};
use crate::git::Kind;

/// One file on its way into a tree.
pub(super) struct Leaf<'a> {
    /// Its path from the root.
    pub(super) path: &'a str,
    /// Whether its mode is 100755.
    pub(super) executable: bool,
    /// Its content.
    pub(super) bytes: &'a [u8],
}

/// The id that `git write-tree` prints for plain `files` in a repository of object format SHA-256.
pub fn sha256_id(files: &Files) -> TreeId {
    hash(&leaves(files))
}

/// Gives `store` the objects of a tree of plain `files`, what is named before what names it; returns the root's id.
///
/// # Errors
/// The first of `store`.
pub fn write(
    files: &Files,
    store: impl Fn(Kind, &[u8]) -> Result<ObjectId, Refusal>,
) -> Result<ObjectId, Refusal> {
    let root = build(&leaves(files), 0, &|kind, bytes| Ok(store(kind, bytes)?.0));
    root.map(ObjectId)
}

fn leaves(files: &Files) -> Vec<Leaf<'_>> {
    let leaves = files.iter().map(|(path, bytes)| Leaf {
        path,
        executable: false,
        bytes,
    });
    leaves.collect()
}

/// The SHA-256 id of the tree of `leaves`, which are sorted by path.
pub(super) fn hash(leaves: &[Leaf<'_>]) -> TreeId {
    let root = build(leaves, 0, &|kind, bytes| {
        Ok::<[u8; 32], Infallible>(sha256(kind, bytes))
    });
    match root {
        Ok(id) => TreeId(id),
    }
}

/// The SHA-256 id of an object.
pub(super) fn sha256(kind: Kind, bytes: &[u8]) -> [u8; 32] {
    let header = format!("{kind} {}\0", bytes.len());
    let digest = Sha256::new().chain_update(header).chain_update(bytes);
    digest.finalize().into()
}

/// Adds an entry to the raw bytes of a tree object.
pub(super) fn add_entry(raw: &mut Vec<u8>, mode: Mode, name: &str, id: &[u8]) {
    for part in [mode.as_str().as_bytes(), b" ", name.as_bytes(), b"\0", id] {
        raw.extend_from_slice(part);
    }
}

/// Takes an object and returns its id.
type Store<'a, const N: usize, E> = dyn Fn(Kind, &[u8]) -> Result<[u8; N], E> + 'a;

/// Gives `store` the objects of the directory whose path has `prefix` bytes and holds exactly `leaves`.
///
/// Paths sorted by their bytes are in git's order at every level: a directory's name is followed by `/` there too.
fn build<const N: usize, E>(
    leaves: &[Leaf<'_>],
    prefix: usize,
    store: &Store<'_, N, E>,
) -> Result<[u8; N], E> {
    let mut raw = Vec::new();
    let mut rest = leaves;
    while let [first, ..] = rest {
        let below = &first.path[prefix..];
        let (mode, name, id, taken) = match below.split_once('/') {
            Some((name, _)) => {
                let inside = prefix + name.len() + 1;
                let directory = &first.path[..inside];
                let taken = rest.partition_point(|leaf| leaf.path.starts_with(directory));
                let id = build(&rest[..taken], inside, store)?;
                (Mode::Directory, name, id, taken)
            }
            None => {
                let mode = if first.executable {
                    Mode::Executable
                } else {
                    Mode::Plain
                };
                (mode, below, store(Kind::Blob, first.bytes)?, 1)
            }
        };
        add_entry(&mut raw, mode, name, &id);
        rest = &rest[taken..];
    }
    store(Kind::Tree, &raw)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;
    use crate::git::Git;
    use crate::oracle::Oracle;
    use crate::tree::{Limits, Snapshot, read};
    use crate::unit::Bytes;

    /// Paths of few components with characters around `/`, so that git's order matters; and which may be executed.
    fn trees() -> impl Strategy<Value = BTreeMap<String, bool>> {
        let path = prop::collection::vec("[ab]([-.0]b)?", 1..4).prop_map(|parts| parts.join("/"));
        prop::collection::btree_map(path, any::<bool>(), 0..12).prop_map(|files| {
            let paths: BTreeSet<String> = files.keys().map(|path| format!("{path}/")).collect();
            let is_file = |path: &String| {
                let inside = |other: &String| other.starts_with(&format!("{path}/"));
                paths.iter().filter(|other| inside(other)).count() == 1
            };
            files
                .into_iter()
                .filter(|(path, _)| is_file(path))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn git_names_the_tree_as_we_do(files in trees()) {
            let oracle = Oracle::new();
            for (path, executable) in &files {
                let mode = if *executable { 0o755 } else { 0o644 };
                set_permissions(oracle.write(path, path), Permissions::from_mode(mode)).unwrap();
            }
            let write_tree = |format: &str| {
                let folder = format!("--git-dir=.git-{format}");
                let git = |arguments: &[&str]| {
                    oracle.run("git", &[&[folder.as_str(), "--work-tree=."], arguments].concat())
                };
                git(&["init", "-q", "--object-format", format]);
                for path in files.keys() {
                    git(&["add", path]);
                }
                git(&["write-tree"])
            };
            let (sha1, sha256) = (write_tree("sha1"), write_tree("sha256"));

            let git = Git::open(&oracle.path().join(".git-sha1")).unwrap();
            let limits = Limits { files: 100, bytes: Bytes(10_000) };
            let snapshot = read(&git, &sha1.parse().unwrap(), &limits).unwrap();
            prop_assert_eq!(snapshot.id.to_string(), sha256);
            prop_assert_eq!(snapshot.files.len(), files.len());

            let root = write(&snapshot.files, |kind, bytes| git.write(kind, bytes)).unwrap();
            let plain = read(&git, &root, &limits).unwrap();
            prop_assert_eq!(plain.id, sha256_id(&snapshot.files));
            prop_assert_eq!(plain.files, snapshot.files);
        }
    }

    #[test]
    fn files_that_are_left_out_do_not_count() {
        let file = |path: &str| (path.to_owned(), path.as_bytes().into());
        let all: Files = ["manifest", "manifest.sig", "releases/manifest"]
            .map(file)
            .into();
        let kept: Files = [file("releases/manifest")].into();
        let snapshot = Snapshot {
            id: sha256_id(&all),
            files: all,
            executable: BTreeSet::new(),
        };
        assert_eq!(
            snapshot.id_without(&["manifest", "manifest.sig"]),
            sha256_id(&kept)
        );
    }
}
