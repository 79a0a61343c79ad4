//! What must hold whatever is served, in whatever order, and wherever a crash falls. Stock git and ssh-keygen are asked
//! who signed what; we may be stricter than they are, never laxer.

mod checkpoint;
mod served;
mod signed;

use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use state::digest::ObjectId;

use super::support::Fleet;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    })
}

/// Runs a program in the fleet's folder; its output if it succeeds.
fn ask(fleet: &Fleet, program: &str, args: &[&str], input: &[u8]) -> Option<String> {
    let file = fleet.path("input");
    std::fs::write(&file, input).unwrap();
    let done = Command::new(program)
        .args(args)
        .current_dir(fleet.path("state"))
        .env("HOME", fleet.path(""))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    done.status.success().then_some(text)
}

/// Lists who may sign as stock tools want it: alice and the CI key commits, policy manifests.
fn allow(fleet: &Fleet) {
    let mut text = format!("policy {}\n", fleet.policy.public());
    for name in ["alice", "ci"] {
        let line = std::fs::read_to_string(fleet.path(&format!("{name}.pub"))).unwrap();
        text += &format!("{name} {line}");
    }
    std::fs::write(fleet.path("allowed"), text).unwrap();
}

/// Says whether `git verify-commit` accepts a commit.
fn git_accepts(fleet: &Fleet, commit: &ObjectId) -> bool {
    let option = format!(
        "gpg.ssh.allowedSignersFile={}",
        fleet.path("allowed").display()
    );
    let args = ["-c", &option, "verify-commit", &commit.to_string()];
    ask(fleet, "git", &args, b"").is_some()
}
