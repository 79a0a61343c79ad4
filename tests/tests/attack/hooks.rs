//! Attacks by whoever may push: around policy's hook, or past it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use state::Code;
use state::git::Kind;
use tests::attack::range::Range;
use tests::program;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("push to `admitted`", |range| {
        pushed(range, &["HEAD:refs/heads/admitted"])
    }),
    ("push to `fresh`", |range| {
        pushed(range, &["HEAD:refs/heads/fresh"])
    }),
    ("push of a tag", |range| {
        pushed(range, &["HEAD:refs/tags/v1"])
    }),
    ("push of another branch", |range| {
        pushed(range, &["HEAD:refs/heads/main2"])
    }),
    ("push of a replacement", replacement),
    ("push of a note", |range| {
        pushed(range, &["HEAD:refs/notes/commits"])
    }),
    ("push outside of refs/heads", |range| {
        pushed(range, &["HEAD:refs/incoming/main"])
    }),
    ("deletion of `main`", |range| {
        pushed(range, &[":refs/heads/main"])
    }),
    ("deletion of `admitted`", |range| {
        pushed(range, &[":refs/heads/admitted"])
    }),
    ("deletion of `trust`", |range| {
        pushed(range, &[":refs/heads/trust"])
    }),
    ("rewind of `main`", |range| {
        pushed(range, &["main~1:refs/heads/main"])
    }),
    ("a commit of `main` on `trust`", |range| {
        pushed(range, &["HEAD:refs/heads/trust"])
    }),
    ("a good ref hides a bad one", good_with_bad),
    ("500 refs in one push", many_refs),
    ("a mirror's push", mirror_push),
    ("push through a symbolic name", symbolic_name),
    ("a ref whose name turns the text around", |range| {
        pushed(range, &["HEAD:refs/heads/\u{202e}niam"])
    }),
    ("a ref whose name is no text", odd_bytes),
    ("a ref whose name looks like `main`", |range| {
        pushed(range, &["HEAD:refs/heads/m\u{430}in"])
    }),
    ("trust that one of two roots signed", one_root),
    ("a tree in place of a commit on `main`", tree_on_main),
    ("a client that runs no hook of ours", hooks_left_out),
];

fn pushed(range: &mut Range, refspecs: &[&str]) -> Code {
    range.push_of_refused(Code::RefRefused, refspecs)
}

fn replacement(range: &mut Range) -> Code {
    let tip = range.fleet.in_state(&["rev-parse", "HEAD"]).ok().stdout;
    pushed(range, &[&format!("HEAD~1:refs/replace/{}", tip.trim())])
}

fn good_with_bad(range: &mut Range) -> Code {
    let rules = "hosts: any\nmaxRemovals: 99\n";
    range
        .fleet
        .write("environments/dev/environment.yaml", rules);
    range.fleet.commit("A good commit").ok();
    pushed(range, &["main:refs/heads/main", "main:refs/heads/admitted"])
}

fn many_refs(range: &mut Range) -> Code {
    let refspecs: Vec<_> = (0..500)
        .map(|number| format!("HEAD:refs/heads/x{number}"))
        .collect();
    pushed(
        range,
        &refspecs.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

fn mirror_push(range: &mut Range) -> Code {
    // It deletes what the clone does not have: `admitted` and `fresh`.
    pushed(range, &["--mirror"])
}

fn symbolic_name(range: &mut Range) -> Code {
    let honest = range.honest();
    let git = |args: &[&str]| {
        let mut git = program::command("git", &honest);
        program::run(git.arg("-C").arg(&honest).args(args)).ok();
    };
    // Somebody once gave `main` a second name.
    git(&["symbolic-ref", "refs/heads/trunk", "refs/heads/main"]);
    let forge = range.clone_of_author();
    let unsigned = forge.write(Kind::Commit, forge.evil_commit().unsigned().as_bytes());
    let code = pushed(range, &[&format!("{unsigned}:refs/heads/trunk")]);
    git(&["symbolic-ref", "--delete", "refs/heads/trunk"]);
    code
}

fn odd_bytes(range: &mut Range) -> Code {
    let before = (range.witness(), range.refs());
    let mut git = program::command("git", range.fleet.path("").as_path());
    git.arg("-C").arg(range.fleet.path("state"));
    git.args(["push", "-q", "origin"]);
    git.arg(OsStr::from_bytes(b"HEAD:refs/heads/\xff\xfe"));
    program::run(&mut git).refused(Code::RefRefused.as_str());
    assert_eq!(range.refs(), before.1, "no branch has moved");
    range.unharmed(&before.0);
    range.honest_pass();
    Code::RefRefused
}

fn one_root(range: &mut Range) -> Code {
    let mut trust = range.trust.next();
    trust.policy = vec![range.keys.public("stranger").to_string()];
    let clone = range.clone_of_author();
    let before = clone.tip("trust");
    clone.publish_trust(&trust, &["root"]);
    let code = range.push_of_refused(Code::TrustUnsigned, &["trust:refs/heads/trust"]);
    range.clone_of_author().point("trust", &before);
    code
}

fn tree_on_main(range: &mut Range) -> Code {
    pushed(range, &["HEAD^{tree}:refs/heads/main"])
}

fn hooks_left_out(range: &mut Range) -> Code {
    let before = range.witness();
    let honest = range.clone_of_author().tip("main");
    let unsigned = range.clone_of_author();
    let unsigned = unsigned.write(Kind::Commit, unsigned.evil_commit().unsigned().as_bytes());
    let without = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack";
    let refspec = format!("{unsigned}:refs/heads/main");
    range
        .fleet
        .in_state(&["push", "-q", without, "origin", &refspec])
        .ok();
    // `main` is where he wants it, and nobody believes it.
    let code = Code::AuthorUnsigned;
    range
        .fleet
        .policy(&["admit", "state.git", "--key", "keys/policy"])
        .refused(code.as_str());
    range.unharmed(&before);
    assert_eq!(&range.floor(), before.floor(), "the floor has moved");
    let back = format!("{honest}:refs/heads/main");
    range
        .fleet
        .in_state(&["push", "-q", "--force", without, "origin", &back])
        .ok();
    range.fleet.reset();
    range.honest_pass();
    code
}
