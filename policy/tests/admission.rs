//! A signed push becomes a countersigned admission that stock tools can check.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Fleet, run};

#[test]
fn a_signed_push_is_admitted_and_stock_ssh_keygen_verifies_both_statements() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    assert_eq!(fleet.sequence(), 1);
    for (branch, file) in [("admitted", "manifest"), ("fresh", "freshness")] {
        let show = |name: &str| fleet.served(&["show", &format!("{branch}:{name}")]);
        std::fs::write(fleet.path("statement"), show(file).stdout).unwrap();
        std::fs::write(
            fleet.path("statement.sig"),
            show(&format!("{file}.sig")).stdout,
        )
        .unwrap();
        let verify = format!(
            "ssh-keygen -Y verify -n {file}@writ -I policy@acme -f keys/allowed_signers -s statement.sig < statement"
        );
        run("sh", &fleet.path(""), &["-c", &verify]).ok();
    }
    fleet.git(&["verify-commit", "main"]).ok();
    assert!(
        fleet
            .admitted("releases/dev/web.yaml")
            .ok()
            .starts_with("origin:")
    );
    assert!(
        fleet
            .admitted("releases/dev/environment.yaml")
            .ok()
            .contains("hosts: any")
    );
    // An admission's parents are the one before it, below the first an empty commit, and the commit of `main`.
    let parents = fleet.served(&["log", "-1", "--format=%P", "admitted"]).ok();
    let (root, author) = parents.split_once(' ').unwrap();
    assert_eq!(fleet.served(&["ls-tree", root]).ok(), "");
    assert_eq!(author, fleet.served(&["rev-parse", "main"]).ok());
    assert_eq!(
        fleet.served(&["log", "-1", "--format=%P", "fresh"]).ok(),
        ""
    );
}

#[test]
fn a_pass_that_finds_nothing_changes_nothing() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let before = fleet.refs();
    fleet.policy(&["admit", "state.git"]).ok();
    assert_eq!(fleet.refs(), before);
    // A commit that renders to the same releases is no admission either.
    fleet.write("README.md", "hello\n");
    fleet.commit("Say hello");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 1);
}

#[test]
fn releases_that_do_not_change_keep_their_bytes() {
    let fleet = Fleet::new("hosts: any\n", &["web", "api"]);
    let api = fleet.admitted("releases/dev/api.yaml").ok();
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 2);
    assert_eq!(fleet.admitted("releases/dev/api.yaml").ok(), api);
    assert!(fleet.admits("web", 2));
}

#[test]
fn the_log_says_what_when_and_on_whose_authority() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    fleet.pin("web", 2);
    fleet.commit("Release web 2");
    fleet.push().ok();
    let log = fleet.policy(&["log", "state.git"]).ok();
    assert!(
        log.contains("author") && log.contains("Release web 2"),
        "{log}"
    );
    fleet.git(&["fetch", "-q"]).ok();
    let json: serde_json::Value =
        serde_json::from_str(&fleet.author(&["log", "--json"]).ok()).unwrap();
    assert_eq!(json[0]["sequence"], 2);
    assert_eq!(json[0]["author"]["name"], "author");
    assert_eq!(json[0]["changes"][0]["name"], "web");
    assert_eq!(json[0]["changes"][0]["from"], json[1]["changes"][1]["to"]);
}

#[test]
fn trust_and_main_may_come_in_one_push_but_main_not_first() {
    let fleet = Fleet::unserved("hosts: any\n");
    run(
        "git",
        &fleet.path(""),
        &["init", "-q", "--bare", "-b", "main", "state.git"],
    )
    .ok();
    fleet
        .policy(&["hook", "install", "state.git", "--key", "keys/policy"])
        .ok();
    fleet.git(&["remote", "add", "origin", "../state.git"]).ok();
    fleet.push().refused("REF_MISSING");
    fleet.git(&["push", "-q", "origin", "main", "trust"]).ok();
    assert_eq!(fleet.sequence(), 1);
}

#[test]
fn without_the_key_the_hook_wakes_the_daemon_instead() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    std::fs::rename(fleet.path("keys/policy"), fleet.path("keys/elsewhere")).unwrap();
    fleet.pin("web", 2);
    fleet.commit("Release web");
    let outcome = fleet.push();
    assert!(
        outcome.code == 0 && outcome.says("policy run"),
        "{outcome:?}"
    );
    assert!(fleet.path("state.git/writ/wake").exists());
    assert_eq!(fleet.sequence(), 1);
    fleet
        .policy(&["admit", "state.git"])
        .refused("POLICY_KEY_MISSING");
    fleet
        .policy(&["admit", "state.git", "--key", "keys/elsewhere"])
        .ok();
    assert_eq!(fleet.sequence(), 2);
    fleet
        .policy(&["admit", "state.git", "--key", "keys/author"])
        .refused("POLICY_KEY_UNLISTED");
}

#[test]
fn changes_beyond_a_thousand_follow_in_the_next_manifest() {
    let names: Vec<_> = (0..1001).map(|number| format!("s{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let fleet = Fleet::new("hosts: any\n", &names);
    assert_eq!(fleet.sequence(), 2);
    let count = |rev: &str| {
        let manifest = fleet.served(&["show", &format!("{rev}:manifest")]).ok();
        manifest
            .lines()
            .filter(|line| line.starts_with("change: "))
            .count()
    };
    assert_eq!((count("admitted~1"), count("admitted")), (1000, 2));
}

#[test]
fn a_reader_that_goes_away_does_not_make_policy_fail() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let outcome = run(
        "sh",
        &fleet.path("state.git"),
        &["-c", "policy log | true; policy log >&-"],
    );
    assert!(!outcome.says("panicked"), "{outcome:?}");
}
