//! `policy approve` with keys that are no plain file: those that git can sign with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

use tests::fleet::Fleet;
use tests::program::{self, Outcome, binary, command};
use tests::signers::{Hardware, SshAgent};

/// A fleet in which a change of the rules waits for the approval of `bob`, whose key `make` makes.
fn waiting_for_bob(make: impl FnOnce(&Fleet)) -> Fleet {
    let fleet = Fleet::new("hosts: any\n", &[]);
    make(&fleet);
    fleet.add_author("bob", &["approve"]);
    for rules in ["approvals: 1\n", "approvals: 1\nmaxRemovals: 7\n"] {
        let rules = format!("hosts: any\n{rules}");
        fleet.write("environments/dev/environment.yaml", &rules);
        fleet.commit("Change the rules").ok();
        fleet.push().ok();
    }
    assert!(!is_admitted(&fleet));
    fleet
}

fn is_admitted(fleet: &Fleet) -> bool {
    let served = fleet.path("state.git");
    let mut git = command("git", &fleet.path(""));
    let show = ["show", "admitted:releases/dev/environment.yaml"];
    let rules = program::run(git.current_dir(served).args(show)).ok();
    rules.stdout.contains("maxRemovals: 7")
}

/// Makes `keys/bob`, a plain file.
fn make_bob(fleet: &Fleet) {
    let mut keygen = command("ssh-keygen", &fleet.path(""));
    let args = ["-q", "-t", "ed25519", "-N", "", "-C", "bob", "-f"];
    program::run(keygen.args(args).arg(fleet.path("keys/bob"))).ok();
}

/// Runs `policy approve` with `more`.
fn approve(policy: &mut Command, more: &[&str]) -> Outcome {
    let args = ["approve", "dev/environment"];
    program::run(policy.args(args).args(more))
}

#[track_caller]
fn approved_by_bob(fleet: &Fleet, said: Outcome) {
    let said = said.ok();
    assert!(said.stdout.contains("approved by 'bob'"), "{}", said.all());
    assert!(is_admitted(fleet));
}

#[test]
fn a_key_in_an_agent_approves_by_its_public_file() {
    let fleet = waiting_for_bob(make_bob);
    let agent = SshAgent::start(&fleet.path("agent.socket"));
    agent.take(&fleet.path("keys/bob"));
    let mut policy = agent.command(binary("policy"), &fleet.path("state"));
    let said = approve(&mut policy, &["--key", "../keys/bob.pub"]);
    approved_by_bob(&fleet, said);
}

#[test]
fn a_key_in_an_agent_approves_by_what_gits_configuration_says_literally() {
    let fleet = waiting_for_bob(make_bob);
    let public = std::fs::read_to_string(fleet.path("keys/bob.pub")).unwrap();
    let literal = format!("key::{}", public.trim());
    fleet
        .in_state(&["config", "user.signingKey", &literal])
        .ok();
    let agent = SshAgent::start(&fleet.path("agent.socket"));
    let state = fleet.path("state");
    let lacks = approve(&mut agent.command(binary("policy"), &state), &[]);
    assert_eq!(lacks.code, 2, "{}", lacks.all());
    assert!(
        lacks
            .stderr
            .contains("with the key in git's user.signingKey: ssh-keygen did not sign"),
        "{}",
        lacks.all()
    );
    agent.take(&fleet.path("keys/bob"));
    let said = approve(&mut agent.command(binary("policy"), &state), &[]);
    approved_by_bob(&fleet, said);
}

#[test]
fn a_security_key_approves() {
    let hardware = Hardware::new();
    let fleet = waiting_for_bob(|fleet| {
        hardware.make(fleet, "bob", &[]);
    });
    let mut policy = hardware.command(binary("policy"), &fleet.path("state"));
    let said = approve(&mut policy, &["--key", "../keys/bob"]);
    approved_by_bob(&fleet, said);
}

#[test]
fn a_security_key_that_nobody_touched_does_not_approve() {
    let hardware = Hardware::new();
    let fleet = waiting_for_bob(|fleet| {
        hardware.make(fleet, "bob", &["-O", "no-touch-required"]);
    });
    let mut policy = hardware.command(binary("policy"), &fleet.path("state"));
    let said = approve(&mut policy, &["--key", "../keys/bob"]);
    assert_ne!(said.code, 0, "{}", said.all());
    assert!(said.stderr.contains("not touched"), "{}", said.all());
    assert!(!is_admitted(&fleet));
}

#[test]
fn a_key_that_git_finds_is_found_from_every_folder_of_the_clone() {
    let fleet = waiting_for_bob(make_bob);
    fleet
        .in_state(&["config", "user.signingKey", "../keys/bob"])
        .ok();
    let folder = fleet.path("state/environments/dev");
    let mut policy = command(binary("policy"), &fleet.path(""));
    let said = approve(policy.current_dir(folder), &[]);
    approved_by_bob(&fleet, said);
}

#[test]
fn a_key_of_another_kind_is_refused_before_anything_is_pushed() {
    let fleet = waiting_for_bob(make_bob);
    let mut keygen = command("ssh-keygen", &fleet.path(""));
    let args = ["-q", "-t", "ecdsa", "-N", "", "-f"];
    program::run(keygen.args(args).arg(fleet.path("keys/other"))).ok();
    let mut policy = command(binary("policy"), &fleet.path(""));
    let policy = policy.current_dir(fleet.path("state"));
    approve(policy, &["--key", "../keys/other"]).refused("SIGNATURE_NONCANONICAL");
}
