//! `policy release`, as CI jobs and people call it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{Fleet, Outcome, run};

fn sha(digit: u8) -> String {
    digit.to_string().repeat(40)
}

/// Runs `policy release` in `clone`: pins `name` in `dev` to a commit of 40 times `digit`.
fn release(clone: &Path, name: &str, digit: u8, more: &[&str]) -> Outcome {
    let commit = sha(digit);
    let args = ["release", name, "--environment", "dev", "--commit", &commit];
    run("policy", clone, &[&args[..], more].concat())
}

/// The author's release of `web`, pushed.
fn push_release(fleet: &Fleet) -> Outcome {
    release(&fleet.path("state"), "web", 2, &["--push"])
}

#[test]
fn a_release_changes_the_pin_only_and_asking_twice_does_nothing() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let overlay = "environments/dev/web.yaml";
    fleet.write(
        overlay,
        &format!(
            "# why: see the runbook\nsource:\n  commit: '{}'   # bumped by CI\nkeep: 9\n",
            sha(1)
        ),
    );
    fleet.commit("Comment");
    fleet.push().ok();
    fleet.write("services/web/notes.txt", "not yet\n");
    fleet.write("repository.yaml.orig", "kept out\n");
    let said = push_release(&fleet);
    assert!(said.says(&format!("+  commit: '{}'", sha(2))), "{said:?}");
    said.ok();
    let text = fleet
        .git(&["show", "HEAD:environments/dev/web.yaml"])
        .stdout;
    assert_eq!(
        text,
        format!(
            "# why: see the runbook\nsource:\n  commit: '{}'   # bumped by CI\nkeep: 9\n",
            sha(2)
        )
    );
    assert_eq!(
        fleet
            .git(&["show", "--format=", "--name-only", "HEAD"])
            .ok(),
        overlay
    );
    assert_eq!(fleet.sequence(), 3);
    let head = fleet.git(&["rev-parse", "HEAD"]).ok();
    let said = push_release(&fleet);
    assert!(said.says("nothing done"), "{said:?}");
    assert_eq!(fleet.git(&["rev-parse", "HEAD"]).ok(), head);
}

#[test]
fn the_difference_shows_a_base_change_that_would_go_along() {
    let fleet = Fleet::new("hosts: any\ncooldown: 1h\n", &["web"]);
    fleet.write(
        "services/web/service.yaml",
        &format!("{}keep: 7\n", common::SERVICE),
    );
    fleet.commit("Keep more");
    fleet.push().ok();
    fleet.git(&["fetch", "-q"]).ok();
    let said = release(&fleet.path("state"), "web", 2, &[]).ok();
    assert!(
        said.contains("+keep: 7") && said.contains(&format!("+  commit: '{}'", sha(2))),
        "{said}"
    );
}

#[test]
fn a_refused_release_is_taken_back() {
    let fleet = Fleet::new("hosts: any\ncooldown: 1h\nonCooldown: refuse\n", &["web"]);
    let head = fleet.git(&["rev-parse", "HEAD"]).ok();
    let outcome = push_release(&fleet);
    assert!(
        outcome.says("COOLDOWN"),
        "the remote's reason is shown: {outcome:?}"
    );
    outcome.refused("PUSH_FAILED");
    assert_eq!(fleet.git(&["rev-parse", "HEAD"]).ok(), head);
    assert_eq!(fleet.git(&["status", "--porcelain"]).ok(), "");
}

#[test]
fn concurrent_releases_of_two_services_both_win() {
    let fleet = Fleet::new("hosts: any\n", &["web", "api"]);
    let jobs: Vec<_> = ["web", "api"]
        .map(|name| {
            let clone = fleet.path(&format!("ci-{name}"));
            run(
                "git",
                &fleet.path(""),
                &["clone", "-q", "state.git", &format!("ci-{name}")],
            )
            .ok();
            for (key, value) in [("gpg.format", "ssh"), ("user.signingkey", "../keys/author")] {
                run("git", &clone, &["config", key, value]).ok();
            }
            (name, clone)
        })
        .into_iter()
        .map(|(name, clone)| {
            std::thread::spawn(move || {
                for digit in 2..5 {
                    release(&clone, name, digit, &["--push"]).ok();
                }
            })
        })
        .collect();
    for job in jobs {
        job.join().unwrap();
    }
    fleet.policy(&["admit", "state.git"]).ok();
    for name in ["web", "api"] {
        assert!(
            fleet
                .admitted(&format!("releases/dev/{name}.yaml"))
                .ok()
                .contains(&sha(4))
        );
    }
    assert_eq!(fleet.served(&["rev-list", "--count", "main"]).ok(), "8");
}

#[test]
fn what_a_remote_says_cannot_reach_the_terminal_as_an_escape() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let hook = "#!/bin/sh\nprintf 'no \\033[2J\\n' >&2\nexit 1\n";
    std::fs::write(fleet.path("state.git/hooks/pre-receive"), hook).unwrap();
    let said = push_release(&fleet).refused("PUSH_FAILED");
    assert!(said.says("no ") && !said.says("\u{1b}"), "{said:?}");
}
