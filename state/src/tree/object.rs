//! One tree object: its entries, in git's one spelling.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::name;
use crate::digest::ObjectId;
use crate::{Code, Refusal};

/// What a tree's entry is. Everything else that git knows is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A file, `100644`.
    Plain,
    /// A file that may be executed, `100755`.
    Executable,
    /// A directory, `40000`.
    Directory,
}

impl Mode {
    /// The mode as a tree object spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "100644",
            Self::Executable => "100755",
            Self::Directory => "40000",
        }
    }

    fn parse(text: &[u8]) -> Result<Self, Refusal> {
        match text {
            b"100644" => Ok(Self::Plain),
            b"100755" => Ok(Self::Executable),
            b"40000" => Ok(Self::Directory),
            b"120000" => Err(Refusal::new(Code::SymlinkRefused, "it is a symbolic link")),
            b"160000" => Err(Refusal::new(Code::SubmoduleRefused, "it is a submodule")),
            other => {
                let shown = String::from_utf8_lossy(other);
                let detail = format!("mode '{shown}', expected 100644, 100755 or 40000");
                Err(Refusal::new(Code::TreeMalformed, detail))
            }
        }
    }
}

/// One entry of a tree object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub mode: Mode,
    /// Its name, one path component.
    pub name: String,
    /// The blob or tree.
    pub id: ObjectId,
}

impl Entry {
    /// The order of a tree's entries: a directory stands where its name with a final `/` would.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        fn key(entry: &Entry) -> impl Iterator<Item = u8> {
            let slash = (entry.mode == Mode::Directory).then_some(b'/');
            entry.name.bytes().chain(slash)
        }
        key(self).cmp(key(other))
    }
}

/// Reads the raw bytes of a tree object.
///
/// # Errors
/// `TREE_MALFORMED`, `SYMLINK_REFUSED`, `SUBMODULE_REFUSED`, `PATH_REFUSED`, `PATH_COLLISION`.
pub fn parse(mut raw: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let mut entries: Vec<Entry> = Vec::new();
    while !raw.is_empty() {
        let (entry, rest) = parse_entry(raw)?;
        if entries
            .last()
            .is_some_and(|last| last.order(&entry).is_ge())
        {
            let detail = format!("'{}' is not in git's order", entry.name);
            entries.push(entry);
            check_distinct(&entries)?; // says more
            return Err(Refusal::new(Code::TreeMalformed, detail));
        }
        entries.push(entry);
        raw = rest;
    }
    if !is_distinct_by_order(&entries) {
        check_distinct(&entries)?;
    }
    Ok(entries)
}

/// Says whether entries that are in git's order have different names for that alone: all are files or all are
/// directories, and all are in lower case.
fn is_distinct_by_order(entries: &[Entry]) -> bool {
    let is_directory = |entry: &Entry| entry.mode == Mode::Directory;
    let is_upper = |entry: &Entry| entry.name.bytes().any(|byte| byte.is_ascii_uppercase());
    let of_one_kind = entries
        .windows(2)
        .all(|pair| is_directory(&pair[0]) == is_directory(&pair[1]));
    of_one_kind && !entries.iter().any(is_upper)
}

/// Checks that no two names of a directory are the same where case does not count.
fn check_distinct(entries: &[Entry]) -> Result<(), Refusal> {
    fn folded(name: &str) -> Cow<'_, str> {
        match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => name.to_ascii_lowercase().into(),
            false => name.into(),
        }
    }
    let names = entries.iter().map(|entry| entry.name.as_str());
    let mut names: Vec<_> = names.map(|name| (folded(name), name)).collect();
    names.sort();
    for pair in names.windows(2) {
        let [(one, first), (other, second)] = pair else {
            continue;
        };
        if one == other {
            let code = match first == second {
                true => Code::TreeMalformed,
                false => Code::PathCollision,
            };
            let detail = format!("'{first}' and '{second}' are in one directory");
            return Err(Refusal::new(code, detail));
        }
    }
    Ok(())
}

/// Reads `mode name NUL id` and returns what follows.
fn parse_entry(raw: &[u8]) -> Result<(Entry, &[u8]), Refusal> {
    let cut = || Refusal::new(Code::TreeMalformed, "the tree object is cut off");
    let position = |byte| raw.iter().position(|b| *b == byte).ok_or_else(cut);
    let (space, nul) = (position(b' ')?, position(b'\0')?);
    let name = raw.get(space + 1..nul).ok_or_else(cut)?;
    let (id, rest) = raw[nul + 1..].split_first_chunk().ok_or_else(cut)?;
    let mode = Mode::parse(&raw[..space]).map_err(|refusal| {
        let shown = String::from_utf8_lossy(name);
        refusal.at(format_args!("'{shown}'"))
    })?;
    let entry = Entry {
        mode,
        name: name::check(name)?.to_owned(),
        id: ObjectId(*id),
    };
    Ok((entry, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The raw bytes of a tree of `(mode, name)`, in the order given.
    fn raw(entries: &[(&str, &str)]) -> Vec<u8> {
        let entry = |(mode, name): &(&str, &str)| {
            [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &[7; 20]].concat()
        };
        entries.iter().flat_map(entry).collect()
    }

    fn code(entries: &[(&str, &str)]) -> Option<Code> {
        parse(&raw(entries)).err().map(|refusal| refusal.code)
    }

    #[test]
    fn entries_stand_in_git_s_order_where_a_directory_ends_in_a_slash() {
        let (file, directory) = ("100644", "40000");
        assert_eq!(code(&[]), None);
        assert_eq!(code(&[(file, "a-b"), (directory, "a"), (file, "a0")]), None);
        assert_eq!(code(&[(file, "a"), (file, "a-b"), (file, "a0")]), None);
        let malformed = Some(Code::TreeMalformed);
        assert_eq!(code(&[(directory, "a"), (file, "a-b")]), malformed);
        assert_eq!(code(&[(file, "b"), (file, "a")]), malformed);
    }

    #[test]
    fn names_that_stand_twice_or_differ_in_case_only_are_refused() {
        let (file, directory) = ("100644", "40000");
        assert_eq!(code(&[(file, "a"), (file, "a")]), Some(Code::TreeMalformed));
        let apart = [(file, "a"), (file, "a.b"), (directory, "a")];
        assert_eq!(code(&apart), Some(Code::TreeMalformed));
        let collision = Some(Code::PathCollision);
        assert_eq!(code(&[(file, "Web.yaml"), (file, "web.yaml")]), collision);
        assert_eq!(
            code(&[(directory, "WEB"), (file, "x"), (file, "web")]),
            collision
        );
    }

    #[test]
    fn modes_that_stock_git_does_not_write_for_files_are_refused() {
        for mode in ["100664", "040000", "100600", "40755", "", "0"] {
            assert_eq!(code(&[(mode, "a")]), Some(Code::TreeMalformed), "{mode}");
        }
        assert_eq!(code(&[("120000", "a")]), Some(Code::SymlinkRefused));
        assert_eq!(code(&[("160000", "a")]), Some(Code::SubmoduleRefused));
        assert_eq!(code(&[("100755", ".git")]), Some(Code::PathRefused));
        let whole = raw(&[("100755", "a")]);
        for end in 1..whole.len() {
            let refusal = parse(&whole[..end]).unwrap_err();
            assert_eq!(refusal.code, Code::TreeMalformed, "{end}");
        }
    }

    proptest! {
        #[test]
        fn what_was_read_is_written_as_the_same_bytes(at in 0_usize..120, byte: u8) {
            let mut bytes = raw(&[("100755", "a"), ("100644", "ab"), ("40000", "b"), ("100644", "c")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(entries) = parse(&bytes) {
                let entry = |entry: Entry| {
                    [entry.mode.as_str().as_bytes(), b" ", entry.name.as_bytes(), b"\0", &entry.id.0].concat()
                };
                let again: Vec<u8> = entries.into_iter().flat_map(entry).collect();
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
