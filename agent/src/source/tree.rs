//! The entries of a source tree. Unlike the state repository's it may hold links, and need not be as stock git writes
//! it; what could do harm when it is written out is refused.

use state::digest::ObjectId;
use state::{Code, Refusal};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File { executable: bool },
    Link,
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) id: ObjectId,
}

/// The tree that a commit names in its first line.
pub(super) fn of_commit(commit: &[u8]) -> Option<ObjectId> {
    let line = commit.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line.strip_prefix(b"tree ")?)
        .ok()?
        .parse()
        .ok()
}

/// Reads the raw bytes of a tree.
pub(super) fn parse(mut raw: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let mut entries = Vec::new();
    while !raw.is_empty() {
        let (entry, rest) = entry(raw)?;
        entries.push(entry);
        raw = rest;
    }
    Ok(entries)
}

/// Reads `<mode> <name>\0<id>` and gives what follows.
fn entry(raw: &[u8]) -> Result<(Entry, &[u8]), Refusal> {
    let malformed = || refuse("a tree is cut short");
    let space = raw
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or_else(malformed)?;
    let (mode, rest) = (&raw[..space], &raw[space + 1..]);
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .ok_or_else(malformed)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    let (id, rest) = rest.split_first_chunk().ok_or_else(malformed)?;

    let name = std::str::from_utf8(name)
        .map_err(|_| refuse(format!("the name '{}' is not UTF-8", name.escape_ascii())))?;
    if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.len() > 255 {
        return Err(refuse(format!("'{name}' is no file name")));
    }
    // Git would read its settings and hooks there; `git~1` is the same folder to file systems of another kind.
    if name.eq_ignore_ascii_case(".git") || name.eq_ignore_ascii_case("git~1") {
        return Err(refuse(format!("'{name}' is git's own")));
    }
    let kind = match mode {
        b"40000" | b"040000" => Kind::Folder,
        b"100644" | b"100664" => Kind::File { executable: false },
        b"100755" => Kind::File { executable: true },
        b"120000" => Kind::Link,
        b"160000" => return Err(refuse(format!("'{name}' is a submodule"))),
        _ => {
            let mode = String::from_utf8_lossy(mode);
            return Err(refuse(format!("'{name}' has mode {mode}")));
        }
    };
    let entry = Entry {
        kind,
        name: name.to_owned(),
        id: ObjectId(*id),
    };
    Ok((entry, rest))
}

pub(super) fn refuse(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::SourceRefused, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(mode: &str, name: &str) -> Vec<u8> {
        [format!("{mode} {name}\0").as_bytes(), &[9; 20]].concat()
    }

    #[test]
    fn names_that_would_leave_their_folder_or_speak_to_git_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            ".git",
            ".GIT",
            "GIT~1",
            &"n".repeat(256),
        ] {
            assert_eq!(
                parse(&raw("100644", name)).unwrap_err().code,
                Code::SourceRefused,
                "{name}"
            );
        }
        let entries =
            parse(&[raw("100755", ".gitignore"), raw("120000", "link")].concat()).unwrap();
        assert_eq!(entries[0].kind, Kind::File { executable: true });
        assert_eq!(
            (entries[1].kind, entries[1].id),
            (Kind::Link, ObjectId([9; 20]))
        );
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_told_by_its_bytes() {
        let raw = [b"100644 caf\xe9\x1b.txt\0", &[9; 20][..]].concat();
        let refusal = parse(&raw).unwrap_err();
        assert_eq!(refusal.code, Code::SourceRefused);
        assert_eq!(refusal.detail, r"the name 'caf\xe9\x1b.txt' is not UTF-8");
    }

    #[test]
    fn submodules_unknown_modes_and_cut_trees_are_refused() {
        let whole = raw("100644", "a");
        for bad in [
            raw("160000", "sub"),
            raw("100600", "a"),
            whole[..20].to_vec(),
        ] {
            assert_eq!(parse(&bad).unwrap_err().code, Code::SourceRefused);
        }
    }

    #[test]
    fn a_commits_tree_is_in_its_first_line() {
        let id = "9".repeat(40);
        assert_eq!(
            of_commit(format!("tree {id}\nauthor").as_bytes()),
            id.parse().ok()
        );
        assert_eq!(
            of_commit(format!("parent {id}\ntree {id}").as_bytes()),
            None
        );
    }
}
