//! What hosts could not fetch is not admitted: neither through the hook nor past it, in whatever side of a merge it hides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use common::{Fleet, Outcome, command, run};
use state::limit;

/// The beginning of every commit of a side.
const HEAD: &str = "commit refs/heads/side\ncommitter a <a@example.org> 1795000000 +0000\n";

/// Has git write the branch `side` of the author's clone, as `stream` says.
fn import(fleet: &Fleet, stream: &[u8]) {
    let mut git = command("git", &fleet.path("state"));
    git.args([
        "fast-import",
        "--quiet",
        "--force",
        "--date-format=raw-permissive",
    ]);
    let mut child = git.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stream).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A commit of one file.
fn file(path: &str, bytes: u64) -> Vec<u8> {
    filled(path, bytes, b'x')
}

fn filled(path: &str, bytes: u64, byte: u8) -> Vec<u8> {
    let mut stream = format!("{HEAD}data 0\nM 100644 inline {path}\ndata {bytes}\n").into_bytes();
    stream.resize(stream.len() + usize::try_from(bytes).unwrap(), byte);
    stream.push(b'\n');
    stream
}

fn many_files(count: usize) -> Vec<u8> {
    let mut stream = format!("{HEAD}data 0\n");
    for number in 0..count {
        let text = number.to_string();
        let folder = number / 1000;
        write!(
            stream,
            "M 100644 inline f{folder}/{number}\ndata {}\n{text}\n",
            text.len()
        )
        .unwrap();
    }
    stream.into_bytes()
}

fn many_commits(count: u64) -> Vec<u8> {
    (0..count)
        .flat_map(|number| format!("{HEAD}data 8\n{number:08}\n").into_bytes())
        .collect()
}

fn long_message(bytes: u64) -> Vec<u8> {
    let mut stream = format!("{HEAD}data {bytes}\n").into_bytes();
    stream.resize(stream.len() + usize::try_from(bytes).unwrap(), b'x');
    stream.push(b'\n');
    stream
}

/// A commit whose parents are so many others.
fn many_parents(count: usize) -> Vec<u8> {
    let mut stream = String::new();
    for number in 0..count {
        let name = format!("refs/heads/p{number}");
        stream += &HEAD.replace("refs/heads/side", &name);
        stream += &format!("data 2\n{number:02}\n");
    }
    stream += &format!("{HEAD}data 0\nfrom refs/heads/p0\n");
    for number in 1..count {
        writeln!(stream, "merge refs/heads/p{number}").unwrap();
    }
    stream.into_bytes()
}

/// A small side that has merged another one with a large file, and dropped it.
fn hidden() -> Vec<u8> {
    let mut stream = file("large", limit::OBJECT + 1);
    let large =
        String::from_utf8_lossy(HEAD.as_bytes()).replace("refs/heads/side", "refs/heads/large");
    stream = String::from_utf8(stream)
        .unwrap()
        .replacen(HEAD, &large, 1)
        .into_bytes();
    stream.extend(format!("{HEAD}data 5\nsmall\n").bytes());
    stream.extend(format!("{HEAD}data 6\nmerged\nmerge refs/heads/large\n").bytes());
    stream
}

/// What no push may bring in a side, whoever merges it, and the refusal.
fn sides() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        (
            "a file one byte too large",
            file("large", limit::OBJECT + 1),
            "PUSH_TOO_BIG",
        ),
        (
            "it is hidden below a second parent",
            hidden(),
            "PUSH_TOO_BIG",
        ),
        ("too many files", many_files(100_000), "PUSH_TOO_BIG"),
        (
            "too many commits",
            many_commits(limit::COMMITS),
            "PUSH_TOO_BIG",
        ),
        (
            "a long message",
            long_message(limit::COMMIT),
            "PUSH_TOO_BIG",
        ),
        (
            "too many parents",
            many_parents(limit::PARENTS + 1),
            "PUSH_TOO_BIG",
        ),
        (
            "folders that are too deep",
            file(&format!("{}file", "d/".repeat(16)), 1),
            "PATH_REFUSED",
        ),
    ]
}

/// Merges `side`, of which only its history is taken.
fn merge(fleet: &Fleet) {
    let merge = [
        "merge",
        "-q",
        "-s",
        "ours",
        "--no-edit",
        "--allow-unrelated-histories",
        "-S",
        "side",
    ];
    fleet.git(&merge).ok();
}

#[test]
fn the_hook_takes_no_side_that_hosts_could_not_fetch() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    for (what, side, code) in sides() {
        import(&fleet, &side);
        merge(&fleet);
        let before = fleet.refs();
        let refused = fleet.push().refused(code);
        assert_eq!(fleet.refs(), before, "{what}: {refused:?}");
        fleet.reset();
    }
    // Exactly at the limits.
    for side in [
        file("large", limit::OBJECT),
        many_parents(limit::PARENTS),
        file(&format!("{}file", "d/".repeat(15)), 1),
    ] {
        import(&fleet, &side);
        merge(&fleet);
        fleet.push().ok();
    }
    fleet.refuses("services/web/large", &"x".repeat(20 << 20), "TREE_TOO_BIG");
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    assert!(fleet.admits("web", 2));
}

#[test]
fn what_is_pushed_before_the_first_part_is_admitted_counts_together() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    for number in 0..5 {
        import(&fleet, &filled("large", 15 << 20, number));
        merge(&fleet);
        match number {
            4 => drop(fleet.push().refused("PUSH_TOO_BIG")),
            _ => drop(fleet.push().ok()),
        }
    }
    fleet.reset();
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    import(&fleet, &filled("large", 15 << 20, 4));
    merge(&fleet);
    fleet.push().ok();
}

fn admit(fleet: &Fleet) -> Outcome {
    fleet.policy(&["admit", "mirror.git", "--key", "keys/policy"])
}

/// A fleet on a forge with policy's mirror of it.
fn hosted() -> Fleet {
    let fleet = Fleet::unserved("hosts: any\n");
    fleet.write("services/web/service.yaml", common::SERVICE);
    fleet.pin("web", 1);
    fleet.commit("Add web");
    fleet.host();
    let remote = [
        "admit",
        "mirror.git",
        "--remote",
        &fleet.url(),
        "--key",
        "keys/policy",
    ];
    fleet.policy(&remote).ok();
    fleet
}

/// Runs, in the author's clone, the commands that a refusal printed, and follows the remote.
#[track_caller]
fn obey(fleet: &Fleet, refused: &Outcome) {
    let lines = refused
        .stderr
        .lines()
        .map(|line| line.trim_start_matches("remote: "));
    let commands: Vec<_> = lines.filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(!commands.is_empty(), "{refused:?}");
    for line in commands {
        run("sh", &fleet.path("state"), &["-ec", line]).ok();
    }
    fleet.git(&["fetch", "-q", "origin"]).ok();
    fleet
        .git(&["switch", "-q", "-C", "main", "origin/main"])
        .ok();
}

#[test]
fn past_the_hook_policy_names_it_with_the_commands_that_leave_it_behind() {
    let fleet = hosted();
    let mut digit = 1;
    let mut leave = |what: &str, code: &str| {
        fleet.push().ok();
        let refused = admit(&fleet).refused(code);
        assert!(!refused.says("git merge"), "{what}: {refused:?}");
        obey(&fleet, &refused);
        digit += 1;
        fleet.pin("web", digit);
        fleet.commit("Release web");
        fleet.push().ok();
        admit(&fleet).ok();
        assert!(fleet.admits("web", digit), "{what}");
    };
    for (what, side, code) in sides() {
        import(&fleet, &side);
        merge(&fleet);
        leave(what, code);
    }
    fleet.write("services/web/large", &"x".repeat(20 << 20));
    fleet.commit("Add a large file");
    leave("a large file of its own", "TREE_TOO_BIG");
}

#[test]
fn a_branch_that_cannot_be_fetched_stops_no_other() {
    let fleet = hosted();
    let settings = fleet.path("mirror.git/writ/policy.yaml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}maxBytes: 64KiB\n")).unwrap();
    let random = || {
        let mut bytes = vec![0; 200 << 10];
        let mut source = std::fs::File::open("/dev/urandom").unwrap();
        std::io::Read::read_exact(&mut source, &mut bytes).unwrap();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        text
    };
    fleet.write("large", &random());
    fleet.commit("Add what is too large");
    fleet.push().ok();
    let before = fleet.served(&["rev-parse", "fresh"]).ok();
    fleet.served(&["update-ref", "-d", "refs/heads/fresh"]).ok();
    let refused = admit(&fleet).refused("FETCH_TOO_BIG");
    assert_ne!(fleet.served(&["rev-parse", "fresh"]).ok(), "", "{before}");
    obey(&fleet, &refused);
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    admit(&fleet).ok();
    assert!(fleet.admits("web", 2));
}

#[test]
fn what_got_in_while_the_hook_was_missing_is_left_behind_through_it() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let (hooks, aside) = (fleet.path("state.git/hooks"), fleet.path("hooks"));
    std::fs::rename(&hooks, &aside).unwrap();
    import(&fleet, &file("large", limit::OBJECT + 1));
    merge(&fleet);
    fleet.push().ok();
    let trust = fleet
        .git(&["commit-tree", "-m", "Odd", "trust^{tree}"])
        .ok();
    fleet
        .git(&[
            "push",
            "-qf",
            "origin",
            &format!("{trust}:refs/heads/trust"),
        ])
        .ok();
    std::fs::rename(&aside, &hooks).unwrap();
    let admit = || fleet.policy(&["admit", "state.git", "--key", "keys/policy"]);
    let refused = admit().refused("PUSH_TOO_BIG").refused("REF_REFUSED");
    obey(&fleet, &refused);
    admit().ok();
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    assert!(fleet.admits("web", 2));
}

#[test]
fn it_is_told_before_new_hosts_refuse_to_fetch_all() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let admit = || fleet.policy(&["admit", "state.git", "--key", "keys/policy"]);
    let pack = fleet.path("state.git/objects/pack/tmp_pack_large");
    let pack = std::fs::File::create(pack).unwrap();
    pack.set_len(limit::HOST_BYTES / 2).unwrap();
    assert!(!admit().says("maxBytes"));
    pack.set_len(limit::HOST_BYTES).unwrap();
    let told = admit();
    assert!(
        told.code == 0 && told.says("warning: ") && told.says("maxBytes"),
        "{told:?}"
    );
}
