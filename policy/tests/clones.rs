//! A clone whose branches are not of one time: commands fetch what they lack, or say what to fetch.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Fleet, Outcome};

/// A fleet whose author has fetched the first admission, of three.
fn fleet() -> Fleet {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    fleet.git(&["fetch", "-q"]).ok();
    for digit in [2, 3] {
        fleet.pin("web", digit);
        fleet.commit("Release web");
        fleet.push().ok();
    }
    fleet
}

fn release(fleet: &Fleet) -> Outcome {
    let commit = "4".repeat(40);
    let args = ["release", "web", "--environment", "dev", "--commit"];
    fleet.author(&[&args[..], &[&commit]].concat())
}

/// As a root holder does who pushes the newest trust file from a clone that has not fetched the log for a while.
fn with_newer_trust() -> Fleet {
    let fleet = fleet();
    let (anchor, _) = fleet.anchor(1000);
    fleet.replace_policy_key(3, &anchor);
    fleet
}

#[test]
fn trust_that_is_newer_than_the_log_brings_the_log() {
    let fleet = with_newer_trust();
    let log = fleet.author(&["log"]).ok();
    assert!(log.starts_with("3  "), "{log}");
    let fleet = with_newer_trust();
    let said = release(&fleet).ok();
    assert!(said.contains("committed: "), "{said}");
}

#[test]
fn a_log_that_is_newer_than_trust_brings_trust() {
    let fleet = fleet();
    let old = fleet.git(&["rev-parse", "origin/trust"]).ok();
    fleet.replace_policy_key(3, "");
    let args = ["admit", "state.git", "--key", "keys/second"];
    fleet.pin("web", 5);
    fleet.commit("Release web");
    fleet.push();
    fleet.policy(&args).ok();
    let newest = fleet.sequence();
    fleet.git(&["fetch", "-q"]).ok();
    for branch in ["refs/remotes/origin/trust", "refs/heads/trust"] {
        fleet.git(&["update-ref", branch, &old]).ok();
    }
    let log = fleet.author(&["log"]).ok();
    assert!(log.starts_with(&format!("{newest}  ")), "{log}");
    assert!(!log.contains("beyond the last admission"), "{log}");
}

#[test]
fn where_nothing_can_be_fetched_the_command_says_what_to_fetch() {
    let fleet = with_newer_trust();
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    let said = fleet.author(&["log"]).refused("POLICY_STATE_BAD");
    let fetch = "git fetch origin +refs/heads/trust:refs/remotes/origin/trust \
                 +refs/heads/admitted:refs/remotes/origin/admitted failed";
    assert!(said.says("LOG_ROLLBACK") && said.says(fetch), "{said:?}");
}
