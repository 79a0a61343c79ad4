//! How the branch `trust` moves: by commits that each add the next version's two files to those of their one parent.
//! So whoever may push there, and has no key, brings nothing that hosts fetch and nobody asked for.

use std::collections::BTreeMap;

use crate::commit::Links;
use crate::digest::ObjectId;
use crate::git::{Git, Kind};
use crate::limit;
use crate::tree::{Entry, Mode, Objects as _};
use crate::{Code, Refusal, tree};

/// The files of one commit of `trust`, by name.
type Files = BTreeMap<String, Entry>;

/// Checks that `trust` moves from `old` (`None`: it is new) to `new` as root holders move it. Whether the files verify
/// is for [`super::Chain`] to say. Where not even `old` came about in this way, all of `new` must have.
///
/// # Errors
/// `REF_REFUSED`, `COMMIT_MALFORMED`, `PUSH_TOO_BIG`, and those of reading objects.
pub fn check_trust_move(git: &Git, old: Option<&ObjectId>, new: &ObjectId) -> Result<(), Refusal> {
    let moved = follow(git, old, new);
    match old {
        Some(old) if moved.is_err() && follow(git, None, old).is_err() => follow(git, None, new),
        _ => moved,
    }
}

fn follow(git: &Git, old: Option<&ObjectId>, new: &ObjectId) -> Result<(), Refusal> {
    let refuse = |id: &ObjectId, why: String| {
        let detail = format!("commit {id} of 'trust': {why}");
        Err(Refusal::new(Code::RefRefused, detail))
    };
    let mut next = *new;
    let mut commits = 0;
    while Some(&next) != old {
        commits += 1;
        limit::within("new commits", commits, limit::COMMITS)?;
        let at = |refusal: Refusal| refusal.at(format_args!("commit {next} of 'trust'"));
        let links = read(git, &next).map_err(at)?;
        let files = files(git, &links).map_err(at)?;
        let parent = match (&links.parents[..], old) {
            ([parent], _) => Some(*parent),
            ([], None) => None,
            ([], Some(old)) => return refuse(&next, format!("it does not descend from {old}")),
            _ => return refuse(&next, "it has more than one parent".to_owned()),
        };
        let before = match &parent {
            Some(parent) => self::files(git, &read(git, parent).map_err(at)?).map_err(at)?,
            None => Files::new(),
        };
        let version = before.len() / 2 + 1;
        let pair = [format!("{version}.sig"), format!("{version}.yaml")];
        let kept = before
            .iter()
            .all(|(name, entry)| files.get(name) == Some(entry));
        let is_next = |name: &String| pair.contains(name);
        let added =
            files.len() == before.len() + 2 && pair.iter().all(|name| files.contains_key(name));
        if !kept || !added || before.keys().any(is_next) {
            let [signatures, file] = &pair;
            let why = format!(
                "expected one commit that adds '{file}' and '{signatures}' to the files of its parent, and nothing else \
                 (`git reset --soft`, then commit once)"
            );
            return refuse(&next, why);
        }
        match parent {
            Some(parent) => next = parent,
            None => return Ok(()),
        }
    }
    Ok(())
}

fn read(git: &Git, commit: &ObjectId) -> Result<Links, Refusal> {
    limit::within("bytes in a commit", git.size(commit)?, limit::COMMIT)?;
    Links::parse_exact(&git.object(Kind::Commit, commit, limit::COMMIT)?)
}

/// The files of a commit; there are no folders on `trust`, and none of the files may be executed.
fn files(git: &Git, commit: &Links) -> Result<Files, Refusal> {
    let entries = tree::parse(&git.object(Kind::Tree, &commit.tree, limit::OBJECT)?)?;
    let file = |entry: Entry| match entry.mode {
        Mode::Plain => Ok((entry.name.clone(), entry)),
        _ => {
            let detail = format!("'{}' is no plain file", entry.name);
            Err(Refusal::new(Code::RefRefused, detail))
        }
    };
    entries.into_iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{commit, tree};

    struct Branch {
        _folder: tempfile::TempDir,
        git: Git,
    }

    impl Branch {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let git = Git::init_bare(&folder.path().join("r.git")).unwrap();
            Self {
                _folder: folder,
                git,
            }
        }

        /// A commit of `names`, each with its name for content.
        fn commit(&self, names: &[&str], parents: &[ObjectId]) -> ObjectId {
            let files = names.iter().map(|name| {
                let bytes: std::sync::Arc<[u8]> = name.as_bytes().into();
                ((*name).to_owned(), bytes)
            });
            let tree = tree::write(&files.collect(), |kind, bytes| self.git.write(kind, bytes));
            let raw = commit::unsigned(&tree.unwrap(), parents, "t", Timestamp::UNIX_EPOCH);
            self.git.write(Kind::Commit, &raw).unwrap()
        }

        fn code(&self, old: Option<&ObjectId>, new: &ObjectId) -> Option<Code> {
            let checked = check_trust_move(&self.git, old, new);
            checked.err().map(|refusal| refusal.code)
        }
    }

    const ONE: &[&str] = &["1.sig", "1.yaml"];
    const TWO: &[&str] = &["1.sig", "1.yaml", "2.sig", "2.yaml"];
    const THREE: &[&str] = &["1.sig", "1.yaml", "2.sig", "2.yaml", "3.sig", "3.yaml"];

    #[test]
    fn each_commit_adds_the_next_version_to_its_one_parent() {
        let branch = Branch::new();
        let one = branch.commit(ONE, &[]);
        let two = branch.commit(TWO, &[one]);
        let three = branch.commit(THREE, &[two]);
        for old in [None, Some(&one), Some(&two), Some(&three)] {
            assert_eq!(branch.code(old, &three), None, "{old:?}");
        }
    }

    #[test]
    fn any_other_move_is_refused() {
        let branch = Branch::new();
        let one = branch.commit(ONE, &[]);
        let two = branch.commit(TWO, &[one]);
        let side = branch.commit(&["large"], &[]);
        let more = [TWO, &["README"]].concat();
        for (what, new) in [
            ("the same files again", branch.commit(TWO, &[two])),
            ("the same files alone", branch.commit(TWO, &[])),
            ("the same files over others", branch.commit(TWO, &[side])),
            ("a merge", branch.commit(THREE, &[two, side])),
            ("two versions at once", branch.commit(THREE, &[one])),
            ("a file less", branch.commit(ONE, &[two])),
            ("a file more", branch.commit(&more, &[two])),
            ("back", one),
        ] {
            assert_eq!(
                branch.code(Some(&two), &new),
                Some(Code::RefRefused),
                "{what}"
            );
        }
    }

    #[test]
    fn what_came_about_otherwise_may_be_replaced_by_what_did_not() {
        let branch = Branch::new();
        let one = branch.commit(ONE, &[]);
        let two = branch.commit(TWO, &[one]);
        let odd = branch.commit(TWO, &[branch.commit(&["large"], &[])]);
        assert_eq!(branch.code(Some(&odd), &two), None);
        assert_eq!(
            branch.code(Some(&odd), &branch.commit(TWO, &[odd])),
            Some(Code::RefRefused)
        );
    }
}
