//! Attacks on the form of trees and on names: pushed by an author, and admitted past policy's hook.

use state::Code;
use state::digest::ObjectId;
use state::git::Kind;
use tests::attack::commit::CommitText;
use tests::attack::forge::Forge;
use tests::attack::range::Range;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("a symbolic link, pushed", |range| {
        pushed(range, Code::SymlinkRefused, link)
    }),
    ("a symbolic link, admitted", |range| {
        admitted(range, Code::SymlinkRefused, link)
    }),
    (
        "a symbolic link and a directory of its name, pushed",
        |range| pushed(range, Code::SymlinkRefused, link_and_directory),
    ),
    (
        "a symbolic link and a directory of its name, admitted",
        |range| admitted(range, Code::SymlinkRefused, link_and_directory),
    ),
    ("a submodule, pushed", |range| {
        pushed(range, Code::SubmoduleRefused, submodule)
    }),
    ("a submodule, admitted", |range| {
        admitted(range, Code::SubmoduleRefused, submodule)
    }),
    ("a mode that anybody may write to, pushed", |range| {
        pushed(range, Code::TreeMalformed, |forge| {
            with_mode(forge, "100664")
        })
    }),
    ("a mode that anybody may write to, admitted", |range| {
        admitted(range, Code::TreeMalformed, |forge| {
            with_mode(forge, "100664")
        })
    }),
    ("a set-user-id mode", |range| {
        admitted(range, Code::TreeMalformed, |forge| {
            with_mode(forge, "104755")
        })
    }),
    ("a mode with a leading zero", |range| {
        admitted(range, Code::TreeMalformed, |forge| {
            let empty = forge.raw_tree(&[]);
            forge.main_tree_with(&[("040000", b"docs", empty)])
        })
    }),
    ("entries that are not sorted, pushed", |range| {
        pushed(range, Code::TreeMalformed, unsorted)
    }),
    ("entries that are not sorted, admitted", |range| {
        admitted(range, Code::TreeMalformed, unsorted)
    }),
    ("two files of one name, pushed", |range| {
        pushed(range, Code::TreeMalformed, duplicate)
    }),
    ("two files of one name, admitted", |range| {
        admitted(range, Code::TreeMalformed, duplicate)
    }),
    ("a slash in a name", |range| {
        admitted(range, Code::TreeMalformed, |forge| named(forge, b"a/b"))
    }),
    ("a folder .git, pushed", |range| {
        pushed(range, Code::PathRefused, |forge| git_folder(forge, b".git"))
    }),
    ("a folder .git, admitted", |range| {
        admitted(range, Code::PathRefused, |forge| git_folder(forge, b".git"))
    }),
    ("a folder .GIT", |range| {
        admitted(range, Code::PathRefused, |forge| git_folder(forge, b".GIT"))
    }),
    ("a folder git~1, as Windows calls .git", |range| {
        pushed(range, Code::PathRefused, |forge| {
            git_folder(forge, b"git~1")
        })
    }),
    ("a folder .git with an ignorable character", |range| {
        admitted(range, Code::PathRefused, |forge| {
            git_folder(forge, ".g\u{200c}it".as_bytes())
        })
    }),
    ("a name that leads out of the tree", |range| {
        admitted(range, Code::PathRefused, |forge| git_folder(forge, b".."))
    }),
    ("an escape sequence in a name, pushed", |range| {
        pushed(range, Code::PathRefused, |forge| {
            named(forge, b"\x1b[2Jweb.yaml")
        })
    }),
    ("an escape sequence in a name, admitted", |range| {
        admitted(range, Code::PathRefused, |forge| {
            named(forge, b"\x1b[2Jweb.yaml")
        })
    }),
    ("a name that reads from right to left", |range| {
        pushed(range, Code::PathRefused, |forge| {
            named(forge, "web\u{202e}lmay.".as_bytes())
        })
    }),
    ("a name in bytes that are no text", |range| {
        admitted(range, Code::PathRefused, |forge| {
            named(forge, b"web\xff.yaml")
        })
    }),
    ("two names that differ in case, pushed", |range| {
        pushed(range, Code::PathCollision, case)
    }),
    ("two names that differ in case, admitted", |range| {
        admitted(range, Code::PathCollision, case)
    }),
    ("two spellings of one Unicode name", |range| {
        pushed(range, Code::PathRefused, |forge| {
            let blob = forge.blob("x\n");
            forge.main_tree_with(&[
                ("100644", "caf\u{e9}".as_bytes(), blob),
                ("100644", "cafe\u{301}".as_bytes(), blob),
            ])
        })
    }),
    ("a path that is too deep, pushed", |range| {
        pushed(range, Code::PathRefused, deep)
    }),
    ("a path that is too deep, admitted", |range| {
        admitted(range, Code::PathRefused, deep)
    }),
    ("too many files, pushed", |range| {
        pushed(range, Code::TreeTooBig, many)
    }),
    ("too many files, admitted", |range| {
        admitted(range, Code::TreeTooBig, many)
    }),
    (
        "a tree bomb: ten folders, ten times over, pushed",
        |range| pushed(range, Code::TreeTooBig, bomb),
    ),
    (
        "a tree bomb: ten folders, ten times over, admitted",
        |range| admitted(range, Code::TreeTooBig, bomb),
    ),
];

/// The evil commit's message and signature on a tree that `make` writes.
fn commit(forge: &Forge, make: fn(&Forge) -> ObjectId) -> ObjectId {
    let commit = CommitText::new(make(forge), &[forge.tip("main")]);
    forge.write(Kind::Commit, commit.signed(&forge.key("author")).as_bytes())
}

#[track_caller]
fn pushed(range: &mut Range, code: Code, make: fn(&Forge) -> ObjectId) -> Code {
    range.push_refused(code, |forge| commit(forge, make))
}

/// A thief of the policy key admits what no policy would read: agents do not take it in.
#[track_caller]
fn admitted(range: &mut Range, code: Code, make: fn(&Forge) -> ObjectId) -> Code {
    range.intake_refused(code, |forge| {
        let commit = commit(forge, make);
        forge.point("main", &commit);
        forge.admit(forge.empty_draft(forge.origin(&commit)));
    })
}

/// `main` with a file of any name.
fn named(forge: &Forge, name: &[u8]) -> ObjectId {
    forge.main_tree_with(&[("100644", name, forge.blob("x\n"))])
}

fn with_mode(forge: &Forge, mode: &str) -> ObjectId {
    forge.main_tree_with(&[(mode, b"README.md", forge.blob("x\n"))])
}

fn link(forge: &Forge) -> ObjectId {
    forge.main_tree_with(&[("120000", b"link", forge.blob("/etc/passwd"))])
}

fn link_and_directory(forge: &Forge) -> ObjectId {
    let hook = forge.raw_tree(&[("100755", b"post-checkout", forge.blob("#!/bin/sh\n"))]);
    forge.main_tree_with(&[
        ("120000", b"a", forge.blob(".git/hooks")),
        ("40000", b"a", hook),
    ])
}

fn submodule(forge: &Forge) -> ObjectId {
    forge.main_tree_with(&[("160000", b"vendored", ObjectId([7; 20]))])
}

fn unsorted(forge: &Forge) -> ObjectId {
    let blob = forge.blob("x\n");
    forge.raw_tree(&[("100644", b"b", blob), ("100644", b"a", blob)])
}

fn duplicate(forge: &Forge) -> ObjectId {
    let repository = forge.blob("format: 1\n");
    forge.main_tree_with(&[("100644", b"repository.yaml", repository)])
}

fn git_folder(forge: &Forge, name: &[u8]) -> ObjectId {
    let config = forge.raw_tree(&[("100644", b"config", forge.blob("[core]\n"))]);
    forge.main_tree_with(&[("40000", name, config)])
}

fn case(forge: &Forge) -> ObjectId {
    named(forge, b"Repository.yaml")
}

fn deep(forge: &Forge) -> ObjectId {
    let mut tree = forge.raw_tree(&[("100644", b"x", forge.blob("x\n"))]);
    for _ in 0..17 {
        tree = forge.raw_tree(&[("40000", b"x", tree)]);
    }
    forge.main_tree_with(&[("40000", b"x", tree)])
}

fn many(forge: &Forge) -> ObjectId {
    let blob = forge.blob("x\n");
    let names: Vec<_> = (0..20_001).map(|number| format!("{number:05}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|name| ("100644", name.as_bytes(), blob))
        .collect();
    let folder = forge.raw_tree(&entries);
    forge.main_tree_with(&[("40000", b"many", folder)])
}

fn bomb(forge: &Forge) -> ObjectId {
    let names: Vec<_> = (b'a'..=b'j').map(|letter| [letter]).collect();
    let ten = |mode, id| {
        let entries: Vec<_> = names.iter().map(|name| (mode, &name[..], id)).collect();
        forge.raw_tree(&entries)
    };
    let mut tree = ten("100644", forge.blob("x\n"));
    for _ in 0..9 {
        tree = ten("40000", tree);
    }
    forge.main_tree_with(&[("40000", b"bomb", tree)])
}
