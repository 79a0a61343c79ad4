//! What differs between two trees. Equal subtrees are not read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::object::{Entry, Mode};
use super::read::{Folder, Reader};
use super::{Limits, Objects};
use crate::Refusal;
use crate::digest::ObjectId;

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Whether its mode is 100755.
    pub executable: bool,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

/// One path whose content or mode differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: String,
    /// The file before; `None` if there was none.
    pub before: Option<File>,
    /// The file after; `None` if there is none.
    pub after: Option<File>,
}

/// The files that differ between the trees `before` (`None`: the empty tree) and `after`, sorted by path.
///
/// The limits hold for what is read of each tree.
///
/// # Errors
/// Those of [`super::read`].
pub fn changes(
    objects: &dyn Objects,
    before: Option<&ObjectId>,
    after: &ObjectId,
    limits: &Limits,
) -> Result<Vec<Change>, Refusal> {
    let mut walk = Walk {
        before: Reader::new(objects, limits),
        after: Reader::new(objects, limits),
        changes: BTreeMap::new(),
    };
    walk.compare(before, Some(after), &Folder::ROOT)?;
    Ok(walk.changes.into_values().collect())
}

struct Walk<'a> {
    before: Reader<'a>,
    after: Reader<'a>,
    changes: BTreeMap<String, Change>,
}

impl Walk<'_> {
    /// Collects the changes of `folder` between two tree objects of it.
    fn compare(
        &mut self,
        before: Option<&ObjectId>,
        after: Option<&ObjectId>,
        folder: &Folder,
    ) -> Result<(), Refusal> {
        if before == after {
            return Ok(());
        }
        let before = entries(&mut self.before, before, folder)?;
        let after = entries(&mut self.after, after, folder)?;
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let (before, after) = (before.get(name), after.get(name));
            if before == after {
                continue;
            }
            let directory = |entry: &&Entry| entry.mode == Mode::Directory;
            let trees = (before.filter(directory), after.filter(directory));
            if trees != (None, None) {
                let (before, after) = (trees.0.map(|tree| &tree.id), trees.1.map(|tree| &tree.id));
                self.compare(before, after, &folder.enter(name)?)?;
            }
            let path = folder.path_of(name);
            let before = file(&mut self.before, before, &path)?;
            let after = file(&mut self.after, after, &path)?;
            if before.is_some() || after.is_some() {
                let change = Change {
                    path: path.clone(),
                    before,
                    after,
                };
                self.changes.insert(path, change);
            }
        }
        Ok(())
    }
}

/// The entries of a tree by name; none of one that does not exist.
fn entries(
    reader: &mut Reader<'_>,
    id: Option<&ObjectId>,
    folder: &Folder,
) -> Result<BTreeMap<String, Entry>, Refusal> {
    let Some(id) = id else {
        return Ok(BTreeMap::new());
    };
    let entries = reader.entries(id, folder)?;
    let named = entries.into_iter().map(|entry| (entry.name.clone(), entry));
    Ok(named.collect())
}

/// The file that `entry` is, if it is one.
fn file(
    reader: &mut Reader<'_>,
    entry: Option<&Entry>,
    path: &str,
) -> Result<Option<File>, Refusal> {
    let Some(entry) = entry.filter(|entry| entry.mode != Mode::Directory) else {
        return Ok(None);
    };
    let bytes = reader.blob(&entry.id).map_err(|refusal| refusal.at(path))?;
    Ok(Some(File {
        executable: entry.mode == Mode::Executable,
        bytes: bytes.into(),
    }))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::git::{Git, Kind};
    use crate::oracle::Oracle;
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

    fn write_tree(oracle: &Oracle) -> ObjectId {
        oracle.run("git", &["add", "-A"]);
        oracle.run("git", &["write-tree"]).parse().unwrap()
    }

    fn paths(changes: &[Change]) -> Vec<&str> {
        changes.iter().map(|change| change.path.as_str()).collect()
    }

    #[test]
    fn git_finds_the_same_paths_and_equal_subtrees_are_not_read() {
        let oracle = Oracle::new();
        oracle.run("git", &["init", "-q"]);
        for path in [
            "same/deep/file",
            "environments/prod/web",
            "environments/dev/web",
            "gone/a",
            "turns",
            "x",
        ] {
            oracle.write(path, path);
        }
        let before = write_tree(&oracle);
        oracle.write("environments/prod/web", "changed");
        oracle.run("chmod", &["+x", "x"]);
        oracle.run("rm", &["-r", "turns", "gone"]);
        oracle.write("turns/into/a/directory", "x");
        oracle.write("gone", "is a file now");
        let after = write_tree(&oracle);

        let git = Git::open(oracle.path()).unwrap();
        let noted = Noted(&git, RefCell::default());
        let changes = changes(&noted, Some(&before), &after, &LIMITS).unwrap();
        let (one, two) = (before.to_string(), after.to_string());
        let expected = oracle.run(
            "git",
            &["diff-tree", "-r", "--no-renames", "--name-only", &one, &two],
        );
        let mut expected: Vec<_> = expected.lines().collect();
        expected.sort_unstable();
        assert_eq!(paths(&changes), expected);
        let same = oracle
            .run("git", &["rev-parse", &format!("{two}:same")])
            .parse()
            .unwrap();
        assert!(!noted.1.borrow().contains(&same));

        let change = |path| changes.iter().find(|change| change.path == path).unwrap();
        let executable = |file: &Option<File>| file.as_ref().map(|file| file.executable);
        assert_eq!(executable(&change("x").before), Some(false));
        assert_eq!(executable(&change("x").after), Some(true));
        assert_eq!(change("turns").after, None);
        assert_eq!(change("gone").before, None);
    }

    #[test]
    fn everything_is_new_against_the_empty_tree_and_nothing_against_itself() {
        let oracle = Oracle::new();
        oracle.run("git", &["init", "-q"]);
        oracle.write("a", "");
        oracle.write("b/c", "");
        let tree = write_tree(&oracle);
        let git = Git::open(oracle.path()).unwrap();
        assert_eq!(
            paths(&changes(&git, None, &tree, &LIMITS).unwrap()),
            ["a", "b/c"]
        );
        assert_eq!(changes(&git, Some(&tree), &tree, &LIMITS), Ok(vec![]));
    }
}
