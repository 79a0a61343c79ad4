//! Policy at a repository that is hosted elsewhere, without our hooks: it works on a mirror of its own and pushes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Fleet, Outcome, command, run};

/// A fleet on a forge, with policy's mirror of it in `mirror.git` and one admission.
fn hosted() -> Fleet {
    let fleet = Fleet::unserved("hosts: any\n");
    fleet.write("services/web/service.yaml", common::SERVICE);
    fleet.pin("web", 1);
    fleet.commit("Add web");
    fleet.host();
    let admit = [
        "admit",
        "mirror.git",
        "--remote",
        &fleet.url(),
        "--key",
        "keys/policy",
    ];
    fleet.policy(&admit).ok();
    assert_eq!(fleet.sequence(), 1);
    fleet
}

fn admit(fleet: &Fleet) -> Outcome {
    fleet.policy(&["admit", "mirror.git", "--key", "keys/policy"])
}

/// Pushes another release of web.
fn release(fleet: &Fleet, digit: u8) {
    fleet.pin("web", digit);
    fleet.commit("Release web");
    fleet.push().ok();
}

/// Pushes a commit that nobody signed, and returns its id.
fn push_unsigned(fleet: &Fleet) -> String {
    let commit = ["commit", "-q", "--allow-empty", "--no-gpg-sign", "-m", "No"];
    fleet.git(&commit).ok();
    fleet.push().ok();
    fleet.git(&["rev-parse", "HEAD"]).ok()
}

/// A script that the forge runs at each push.
fn forge_hook(fleet: &Fleet, name: &str, script: &str) {
    let path = fleet.path("state.git/hooks").join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn set(fleet: &Fleet, name: &str, value: &str) {
    let path = fleet.path("mirror.git/writ/policy.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with(name));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    std::fs::write(path, format!("{kept}{name}: {value}\n")).unwrap();
}

#[test]
fn a_mirror_is_made_once_and_serves_every_command() {
    let fleet = hosted();
    release(&fleet, 2);
    admit(&fleet).ok();
    assert_eq!(fleet.sequence(), 2);
    let log = fleet.policy(&["log", "mirror.git"]).ok();
    assert!(log.contains("Release web"), "{log}");
    let pending = fleet.policy(&["pending", "mirror.git"]).ok();
    assert_eq!(pending, "nothing waits");
    let replayed = fleet.policy(&["replay", "--repository", "mirror.git"]).ok();
    assert_eq!(replayed.matches("same").count(), 2, "{replayed}");
    let manifest = fleet.admitted("manifest").stdout;
    std::fs::write(fleet.path("manifest"), manifest).unwrap();
    let hash = run("sha256sum", &fleet.path(""), &["manifest"]).ok();
    let seen = format!("2:{}", &hash[..64]);
    fleet
        .policy(&["audit", "--repository", "mirror.git", &seen])
        .ok();
    let hold = |args: &[&str]| {
        let at = ["--repository", "mirror.git", "--key", "keys/policy"];
        fleet
            .policy(&[&["hold", "dev/web"], args, &at].concat())
            .ok()
    };
    hold(&["--reason", "INCIDENT_1"]);
    let manifest = fleet.admitted("manifest").ok();
    assert!(manifest.contains("hold: dev web INCIDENT_1"), "{manifest}");
    hold(&["--lift"]);
    assert_eq!(fleet.sequence(), 4);
    // Nothing to do costs nothing.
    let before = fleet.refs();
    admit(&fleet).ok();
    assert_eq!(fleet.refs(), before);
}

#[test]
fn only_the_branches_of_a_state_repository_are_mirrored() {
    let fleet = hosted();
    fleet
        .git(&["push", "-q", "origin", "main:topic", "main:refs/tags/v1"])
        .ok();
    fleet
        .git(&["push", "-q", "origin", "main:approvals/dev/web/bob"])
        .ok();
    admit(&fleet).ok();
    let refs = || {
        let names = ["for-each-ref", "--format=%(refname:short)"];
        run("git", &fleet.path("mirror.git"), &names).ok()
    };
    let kept = "writ/admitted\nwrit/main\nwrit/trust";
    assert_eq!(
        refs(),
        format!("admitted\napprovals/dev/web/bob\nfresh\nmain\ntrust\n{kept}")
    );
    // What is gone is gone here too, and what is no approval never comes.
    fleet
        .git(&["push", "-q", "origin", ":approvals/dev/web/bob"])
        .ok();
    fleet
        .git(&["push", "-q", "origin", "main:approvals/dev/web/bob/x"])
        .ok();
    admit(&fleet).ok();
    assert_eq!(refs(), format!("admitted\nfresh\nmain\ntrust\n{kept}"));
}

#[test]
fn one_repository_is_either_served_or_a_mirror() {
    let fleet = hosted();
    let url = fleet.url();
    fleet
        .policy(&["hook", "install", "mirror.git"])
        .failed("nobody pushes to it");
    // A repository of its own is not overwritten.
    fleet.path("own.git");
    run(
        "git",
        &fleet.path(""),
        &["clone", "-q", "--bare", "state", "own.git"],
    )
    .ok();
    let mirror =
        |path: &str| fleet.policy(&["admit", path, "--remote", &url, "--key", "keys/policy"]);
    mirror("own.git").failed("of its own");
    mirror("state").failed("neither empty nor a bare repository");
    run(
        "git",
        &fleet.path(""),
        &["init", "-q", "--bare", "served.git"],
    )
    .ok();
    fleet.policy(&["hook", "install", "served.git"]).ok();
    mirror("served.git").failed("was installed by policy");
    // Nor does a mirror go on once somebody has given it hooks.
    let hook = fleet.path("served.git/hooks/pre-receive");
    let hooks = fleet.path("mirror.git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    std::fs::copy(hook, hooks.join("pre-receive")).unwrap();
    admit(&fleet).failed("was installed by policy");
}

#[test]
fn a_remote_that_cannot_be_one_is_refused_before_git_is_run() {
    let fleet = hosted();
    for url in ["ext::sh -c reboot", "http://127.0.0.1/x", "../state.git"] {
        let admit = [
            "admit",
            "other.git",
            "--remote",
            url,
            "--key",
            "keys/policy",
        ];
        fleet.policy(&admit).failed("is none of https://");
    }
    let url = "https://policy:s3cret@127.0.0.1/state.git";
    let outcome = fleet.policy(&["admit", "other.git", "--remote", url]);
    assert!(!outcome.failed("holds a password").says("s3cret"));
    for (name, value, expected) in [
        ("poll", "10ms", "expected 1s to 1h"),
        ("poll", "2h", "expected 1s to 1h"),
        ("deadline", "1d", "expected 1s to 1h"),
        ("maxBytes", "1KiB", "expected at least 64KiB"),
    ] {
        set(&fleet, name, value);
        admit(&fleet).failed(expected);
        set(
            &fleet,
            name,
            if name == "maxBytes" { "1MiB" } else { "10s" },
        );
    }
    admit(&fleet).ok();
}

#[test]
fn an_admission_that_the_remote_lost_is_put_back() {
    let fleet = hosted();
    let first = ["admitted", "fresh"].map(|name| fleet.served(&["rev-parse", name]).ok());
    release(&fleet, 2);
    admit(&fleet).ok();
    let second = fleet.served(&["rev-parse", "admitted"]).ok();
    let admitted = || fleet.served(&["rev-parse", "admitted"]).ok();
    for forget in [false, true] {
        for damage in [
            &["update-ref", "refs/heads/admitted", &first[0]][..],
            &["update-ref", "-d", "refs/heads/admitted"],
            &["update-ref", "refs/heads/admitted", "main"],
        ] {
            fleet.served(damage).ok();
            fleet.served(&["update-ref", "-d", "refs/heads/fresh"]).ok();
            // What was lost is nowhere but in the mirror.
            fleet.served(&["gc", "-q", "--prune=now"]).ok();
            run(
                "git",
                &fleet.path("mirror.git"),
                &["gc", "-q", "--prune=now"],
            )
            .ok();
            if forget {
                let _ = std::fs::remove_file(fleet.path("mirror.git/writ/checkpoint"));
            }
            let outcome = admit(&fleet);
            assert!(outcome.says("replaced"), "{damage:?}: {outcome:?}");
            assert_eq!(admitted(), second, "{damage:?}");
            assert!(fleet.refs().contains("refs/heads/fresh"));
        }
    }
    release(&fleet, 3);
    admit(&fleet).ok();
    assert_eq!(fleet.sequence(), 3);
}

/// Runs, in the author's clone, the commands that a refusal printed.
#[track_caller]
fn obey(fleet: &Fleet, refused: &Outcome) {
    let lines = refused.stderr.lines();
    let commands: Vec<_> = lines.filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(!commands.is_empty(), "{refused:?}");
    for line in commands {
        run("sh", &fleet.path("state"), &["-ec", line]).ok();
    }
}

#[test]
fn a_trust_branch_that_somebody_without_a_key_moved_stops_nobody_and_is_set_back() {
    let fleet = hosted();
    let first = fleet.served(&["rev-parse", "trust"]).ok();
    common::second_trust(&fleet);
    admit(&fleet).ok();
    let second = fleet.served(&["rev-parse", "trust"]).ok();
    let other = Fleet::unserved("hosts: any\n");
    let other = other.path("state").display().to_string();
    fleet.git(&["fetch", "-q", &other, "trust"]).ok();
    let other = fleet.git(&["rev-parse", "FETCH_HEAD"]).ok();
    let commit = |args: &[&str]| {
        fleet
            .git(&[&["commit-tree", "-m", "Odd"], args].concat())
            .ok()
    };
    let moves = [
        ("set back", first, "TRUST_ROLLBACK"),
        ("another fleet's", other, "WRONG_DOMAIN"),
        (
            "the same files again",
            commit(&["-p", "trust", "trust^{tree}"]),
            "REF_REFUSED",
        ),
        (
            "the same files, alone",
            commit(&["trust^{tree}"]),
            "REF_REFUSED",
        ),
        (
            "a merge",
            commit(&["-p", "trust", "-p", "main", "trust^{tree}"]),
            "REF_REFUSED",
        ),
        ("gone", String::new(), "REF_MISSING"),
    ];
    for (digit, (what, to, code)) in (2..).zip(moves) {
        fleet
            .git(&["push", "-qf", "origin", &format!("{to}:refs/heads/trust")])
            .ok();
        release(&fleet, digit);
        let refused = admit(&fleet).refused(code);
        assert!(fleet.admits("web", digit), "{what}: {refused:?}");
        obey(&fleet, &refused);
        assert_eq!(fleet.served(&["rev-parse", "trust"]).ok(), second, "{what}");
        admit(&fleet).ok();
    }
}

#[test]
fn what_was_signed_is_pushed_again_when_the_answer_to_the_push_was_lost() {
    let fleet = hosted();
    // The connection dies before the remote has moved anything, and once it has.
    for (hook, moves) in [("pre-receive", false), ("post-receive", true)] {
        let before = fleet.sequence();
        release(&fleet, u8::try_from(before).unwrap() + 1);
        forge_hook(&fleet, hook, "kill -9 $PPID");
        let outcome = admit(&fleet);
        if !moves {
            outcome.refused("PUSH_FAILED");
        }
        std::fs::remove_file(fleet.path("state.git/hooks").join(hook)).unwrap();
        assert_eq!(fleet.sequence(), before + u64::from(moves), "{hook}");
        let written = std::fs::read_to_string(fleet.path("mirror.git/writ/signed")).unwrap();
        admit(&fleet).ok();
        assert_eq!(fleet.sequence(), before + 1);
        assert_eq!(fleet.admitted("manifest").stdout, written);
    }
}

#[test]
fn what_was_signed_is_pushed_though_main_lost_the_commit_that_it_was_made_from() {
    let fleet = hosted();
    let first = fleet.git(&["rev-parse", "main"]).ok();
    release(&fleet, 2);
    forge_hook(&fleet, "pre-receive", "exit 1");
    admit(&fleet).refused("PUSH_REFUSED");
    std::fs::remove_file(fleet.path("state.git/hooks/pre-receive")).unwrap();
    let written = std::fs::read_to_string(fleet.path("mirror.git/writ/signed")).unwrap();
    let lost = ["update-ref", "refs/heads/main", &first];
    fleet.served(&lost).ok();
    fleet.served(&["gc", "-q", "--prune=now"]).ok();
    // The mirror follows, and throws away what nothing holds.
    fleet.policy(&[
        "hold",
        "dev/none",
        "--reason",
        "A",
        "--repository",
        "mirror.git",
    ]);
    let prune = ["gc", "-q", "--prune=now"];
    run("git", &fleet.path("mirror.git"), &prune).ok();
    admit(&fleet).refused("NOT_DESCENDANT");
    assert_eq!(fleet.sequence(), 2);
    assert_eq!(fleet.admitted("manifest").stdout, written);
}

#[test]
fn a_mirror_is_made_by_its_settings_alone() {
    let fleet = hosted();
    let key = fleet.path("keys/policy");
    let settings = format!("remote: {}\nkey: {}\n", fleet.url(), key.display());
    std::fs::create_dir_all(fleet.path("other.git/writ")).unwrap();
    std::fs::write(fleet.path("other.git/writ/policy.yaml"), &settings).unwrap();
    release(&fleet, 2);
    fleet.policy(&["admit", "other.git"]).ok();
    assert_eq!(fleet.sequence(), 2);
    let kept = std::fs::read_to_string(fleet.path("other.git/writ/policy.yaml")).unwrap();
    assert_eq!(kept, settings);
}

#[test]
fn a_forge_that_lets_nobody_push_admitted_is_told_so_by_name() {
    let fleet = hosted();
    release(&fleet, 2);
    let before = fleet.refs();
    let script =
        "test \"$1\" != refs/heads/admitted || { printf 'protected \\033[31m\\n' >&2; exit 1; }";
    forge_hook(&fleet, "update", script);
    let outcome = admit(&fleet).refused("PUSH_REFUSED");
    assert!(outcome.says("refs/heads/admitted") && outcome.says("protected"));
    assert!(!outcome.says("\u{1b}"), "{outcome:?}");
    assert_eq!(fleet.refs(), before, "nothing moved");
    std::fs::remove_file(fleet.path("state.git/hooks/update")).unwrap();
    admit(&fleet).ok();
    assert_eq!(fleet.sequence(), 2);
}

#[test]
fn a_remote_that_is_away_slow_or_sends_too_much_is_refused_and_nothing_is_lost() {
    let fleet = hosted();
    release(&fleet, 2);
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    admit(&fleet).refused("FETCH_FAILED");
    std::fs::rename(fleet.path("away.git"), fleet.path("state.git")).unwrap();

    // A connection that says nothing.
    let hangs = fleet.path("hangs");
    std::fs::write(&hangs, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&hangs, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = "ssh://nowhere.invalid/state.git";
    set(&fleet, "deadline", "1s");
    let outcome = command("policy", &fleet.path(""))
        .args([
            "admit",
            "mirror.git",
            "--remote",
            url,
            "--key",
            "keys/policy",
        ])
        .env("GIT_SSH_COMMAND", &hangs)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("FETCH_TIMEOUT"), "{said}");

    set(&fleet, "remote", &fleet.url());
    set(&fleet, "deadline", "1m");
    set(&fleet, "maxBytes", "64KiB");
    let noise: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes())
        .collect();
    std::fs::write(fleet.path("state/noise"), noise).unwrap();
    fleet.commit("Add noise");
    fleet.push().ok();
    admit(&fleet).refused("FETCH_TOO_BIG");
    admit(&fleet).refused("FETCH_TOO_BIG");
    // What was cut off does not pile up.
    let packs = std::fs::read_dir(fleet.path("mirror.git/objects/pack")).unwrap();
    let parts = packs.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("tmp_")
    });
    assert!(parts.count() <= 2);
    set(&fleet, "maxBytes", "1GiB");
    fleet.git(&["rm", "-q", "noise"]).ok();
    fleet.commit("Remove noise");
    fleet.push().ok();
    admit(&fleet).ok();
    assert_eq!(fleet.sequence(), 2);
}

#[test]
fn a_bad_tip_is_left_behind_by_the_commands_that_are_printed() {
    let fleet = hosted();
    fleet.pin("web", 2);
    fleet.commit("Release web");
    let good = fleet.git(&["rev-parse", "HEAD"]).ok();
    let bad = push_unsigned(&fleet);
    fleet.served(&["update-ref", "-d", "refs/heads/fresh"]).ok();
    let outcome = admit(&fleet).refused("AUTHOR_UNSIGNED");
    assert!(outcome.says(&good) && outcome.says(&bad), "{outcome:?}");
    assert_eq!(fleet.sequence(), 1);
    assert!(fleet.refs().contains("refs/heads/fresh"), "it is renewed");
    // Holds can be set meanwhile.
    fleet
        .policy(&[
            "hold",
            "dev/web",
            "--reason",
            "BAD",
            "--repository",
            "mirror.git",
            "--key",
            "keys/policy",
        ])
        .ok();
    fleet
        .policy(&[
            "hold",
            "dev/web",
            "--lift",
            "--repository",
            "mirror.git",
            "--key",
            "keys/policy",
        ])
        .ok();
    assert_eq!(fleet.sequence(), 3);
    for line in outcome
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
    {
        run("sh", &fleet.path("state"), &["-ec", line]).ok();
    }
    assert_eq!(fleet.served(&["rev-parse", "main^1"]).ok(), good);
    admit(&fleet).ok();
    assert_eq!(fleet.sequence(), 4);
    assert!(fleet.admits("web", 2));
}

#[test]
fn a_main_that_was_replaced_set_back_or_deleted_is_brought_back_by_the_commands_that_are_printed() {
    let fleet = hosted();
    let first = fleet.git(&["rev-parse", "main"]).ok();
    release(&fleet, 2);
    admit(&fleet).ok();
    let tree = fleet.git(&["rev-parse", "main^{tree}"]).ok();
    let unrelated = fleet.git(&["commit-tree", "-S", "-m", "Other", &tree]).ok();
    for (digit, damage) in [
        format!("{first}:main"),
        ":main".to_owned(),
        format!("{unrelated}:main"),
    ]
    .iter()
    .enumerate()
    {
        match damage.strip_prefix(':') {
            Some(_) => fleet.served(&["update-ref", "-d", "refs/heads/main"]),
            None => fleet.git(&["push", "-qf", "origin", damage]),
        }
        .ok();
        let outcome = admit(&fleet);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        for line in outcome
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
        {
            run("sh", &fleet.path("state"), &["-ec", line]).ok();
        }
        admit(&fleet).ok();
        fleet.git(&["fetch", "-q", "origin"]).ok();
        fleet.git(&["switch", "-q", "main"]).ok();
        fleet.git(&["reset", "-q", "--hard", "origin/main"]).ok();
        release(&fleet, 3 + u8::try_from(digit).unwrap());
        admit(&fleet).ok();
        assert_eq!(fleet.sequence(), 3 + digit as u64, "{damage}");
    }
}
