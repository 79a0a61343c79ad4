//! What an author meets before he pushes: the scaffold, the printed steps, `policy check` and `policy diff`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Fleet, SERVICE, run};

#[test]
fn the_printed_steps_bring_a_scaffold_into_service() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run("policy", dir.path(), &["init", "fleet"]).ok();
    let checked = run("policy", &dir.path().join("fleet"), &["check"]).ok();
    assert!(checked.contains("valid:"), "{checked}");
    let steps = printed.split_once("\n\n").unwrap().1;
    run("sh", &dir.path().join("fleet"), &["-euc", steps]).ok();
    let log = run("policy", &dir.path().join("fleet.git"), &["log"]).ok();
    assert!(log.contains("dev  environment"), "{log}");
    let trust = run(
        "policy",
        dir.path(),
        &[
            "trust",
            "check",
            "keys/1.yaml",
            "--signatures",
            "keys/1.yaml.sig",
        ],
    )
    .ok();
    assert!(trust.contains("complete: push it"), "{trust}");
}

#[test]
fn init_writes_into_nothing_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "").unwrap();
    assert_eq!(run("policy", dir.path(), &["init", "."]).code, 2);
    assert_eq!(run("policy", dir.path(), &["keygen", "mine"]).code, 2);
}

#[test]
fn check_names_every_problem_with_its_file_and_remedy() {
    let fleet = Fleet::unserved("hosts: any\n");
    fleet.write(
        "services/web/service.yaml",
        &format!("{SERVICE}colour: blue\n"),
    );
    fleet.pin("web", 1);
    fleet.write("environments/dev/api.yaml", "source: { commit: main }\n");
    let outcome = fleet.author(&["check"]);
    assert_eq!(outcome.code, 1);
    for part in [
        "services/web/service.yaml",
        "colour",
        "PIN_INVALID",
        "environments/dev/api.yaml",
        "remedy: ",
    ] {
        assert!(outcome.says(part), "{part}: {outcome:?}");
    }
    assert_eq!(fleet.author(&["check", "HEAD"]).code, 0);
    assert_eq!(fleet.author(&["check", "nothing"]).code, 2);
    assert_eq!(
        fleet.git(&["diff", "--cached", "--name-only"]).ok(),
        "",
        "the index is the author's"
    );
}

#[test]
fn a_clone_without_admitted_is_told_the_fetch_that_brings_it() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let url = format!("file://{}", fleet.path("state.git").display());
    run(
        "git",
        &fleet.path(""),
        &["clone", "-q", "--single-branch", &url, "single"],
    )
    .ok();
    let single = fleet.path("single");
    for branch in ["trust", "admitted"] {
        let outcome = run("policy", &single, &["check"]).refused("REF_MISSING");
        let fetch = format!("git fetch origin +refs/heads/{branch}:refs/remotes/origin/{branch}");
        assert!(outcome.says(&fetch), "{outcome:?}");
        run("sh", &single, &["-c", &fetch]).ok();
    }
    run("policy", &single, &["check"]).ok();
}

#[test]
fn check_of_a_commit_authenticates_it_before_it_is_pushed() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    fleet.git(&["fetch", "-q"]).ok();
    fleet.author(&["check", "HEAD"]).ok();
    fleet
        .git(&[
            "commit",
            "-q",
            "--allow-empty",
            "--no-gpg-sign",
            "-m",
            "Unsigned",
        ])
        .ok();
    fleet.author(&["check", "HEAD"]).refused("AUTHOR_UNSIGNED");
}

#[test]
fn diff_shows_rendered_lines_of_what_is_not_admitted_and_between_revisions() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    fleet.git(&["fetch", "-q"]).ok();
    assert_eq!(fleet.author(&["diff"]).ok(), "");
    fleet.write("services/web/service.yaml", &format!("{SERVICE}keep: 7\n"));
    assert!(fleet.author(&["diff"]).ok().contains("+keep: 7"));
    assert_eq!(fleet.author(&["diff", "--environment", "prod"]).ok(), "");
    fleet.commit("Keep more");
    fleet.push().ok();
    fleet.git(&["fetch", "-q"]).ok();
    for range in [
        "HEAD~1..HEAD",
        "origin/admitted~1..origin/admitted",
        "origin/admitted~1",
    ] {
        let text = fleet.author(&["diff", range]).ok();
        assert!(
            text.contains("+keep: 7") && !text.contains("origin"),
            "{range}: {text}"
        );
    }
}

#[test]
fn a_foreign_hook_is_not_overwritten_and_our_own_is_renewed() {
    let fleet = Fleet::new("hosts: any\n", &[]);
    fleet.policy(&["hook", "install", "state.git"]).ok();
    let hook = fleet.path("state.git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\nexit 0\n").unwrap();
    let outcome = fleet.policy(&["hook", "install", "state.git"]);
    assert!(
        outcome.code == 2 && outcome.says("policy hook pre-receive"),
        "{outcome:?}"
    );
    assert_eq!(
        std::fs::read_to_string(hook).unwrap(),
        "#!/bin/sh\nexit 0\n"
    );
}
