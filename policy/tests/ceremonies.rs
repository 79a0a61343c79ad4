//! The next trust file, from its proposal to its publication: what root holders see, and what is refused on the way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Fleet, Outcome, run};

/// A fleet with one admission, its branch `trust` checked out in `trust/`, and two more keys: `keys/new`, `keys/other`.
fn fleet() -> Fleet {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    for name in ["new", "other"] {
        let path = format!("keys/{name}");
        keygen(
            &fleet,
            &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path],
        );
    }
    fleet
        .git(&["worktree", "add", "-q", "../trust", "trust"])
        .ok();
    fleet
}

fn keygen(fleet: &Fleet, args: &[&str]) -> String {
    run("ssh-keygen", &fleet.path(""), args).ok()
}

/// Runs `policy trust` in the work tree of the branch `trust`.
fn trust(fleet: &Fleet, args: &[&str]) -> Outcome {
    let args: Vec<_> = ["trust"].iter().chain(args).copied().collect();
    run("policy", &fleet.path("trust"), &args)
}

fn publish(fleet: &Fleet, version: &str) -> Outcome {
    let git = |args: &[&str]| run("git", &fleet.path("trust"), args);
    git(&["add", "."]).ok();
    git(&["commit", "-q", "-m", &format!("Trust version {version}")]).ok();
    git(&["push", "-q", "origin", "trust"])
}

#[test]
fn a_root_key_is_replaced_by_both_thresholds_and_check_says_who_is_missing() {
    let fleet = fleet();
    let proposed = trust(
        &fleet,
        &["propose", "--replace", "../keys/root.pub=../keys/new.pub"],
    );
    let said = proposed.ok();
    assert!(
        said.contains("- root.keys: SHA256:") && said.contains("+ version: 2"),
        "{said}"
    );
    let missing = trust(&fleet, &["check", "2.yaml"]);
    assert_eq!(missing.code, 75, "{missing:#?}");
    assert!(missing.says("root of version 1: 0 signed, 1 needed"));
    trust(&fleet, &["sign", "2.yaml", "--key", "../keys/root"]).ok();
    let half = trust(&fleet, &["check", "2.yaml"]);
    assert_eq!(half.code, 75, "{half:#?}");
    assert!(half.says("root of version 1: 1 signed") && half.says("root of version 2: 0 signed"));
    publish(&fleet, "2").refused("TRUST_UNSIGNED");
    trust(&fleet, &["sign", "2.yaml", "--key", "../keys/new"]).ok();
    let reset = ["reset", "-q", "--soft", "origin/trust"];
    run("git", &fleet.path("trust"), &reset).ok();
    let whole = trust(&fleet, &["check", "2.yaml", "--log", "../state.git"]).ok();
    assert!(
        whole.contains("complete: ") && whole.contains("log: counts up to 1, its end"),
        "{whole}"
    );
    publish(&fleet, "2").ok();
    let shown = fleet.policy(&["trust", "show", "state.git"]).ok();
    assert!(shown.contains("version 2"), "{shown}");
}

#[test]
fn only_a_root_key_signs_and_only_what_is_in_form() {
    let fleet = fleet();
    trust(&fleet, &["propose"]).ok();
    let stranger = trust(&fleet, &["sign", "2.yaml", "--key", "../keys/author"]);
    stranger.failed("is no root key");
    assert!(!fleet.path("trust/2.sig").exists());
    trust(&fleet, &["propose"]).failed("exists");
    let text = std::fs::read_to_string(fleet.path("trust/2.yaml")).unwrap();
    std::fs::write(
        fleet.path("trust/2.yaml"),
        text.replace("threshold: 1", "threshold: 2"),
    )
    .unwrap();
    trust(&fleet, &["sign", "2.yaml", "--key", "../keys/root"]).refused("TRUST_INVALID");
}

#[test]
fn a_signature_of_the_file_before_it_was_edited_is_named_and_replaced() {
    let fleet = fleet();
    trust(&fleet, &["propose"]).ok();
    trust(&fleet, &["sign", "2.yaml", "--key", "../keys/root"]).ok();
    let text = std::fs::read_to_string(fleet.path("trust/2.yaml")).unwrap();
    std::fs::write(fleet.path("trust/2.yaml"), text + "# Later.\n").unwrap();
    let stale = trust(&fleet, &["check", "2.yaml"]);
    assert!(
        stale.code == 75 && stale.says("of no use: a signature by SHA256:"),
        "{stale:#?}"
    );
    trust(&fleet, &["sign", "2.yaml", "--key", "../keys/root"]).ok();
    trust(&fleet, &["check", "2.yaml"]).ok();
}

#[test]
fn a_key_that_vanishes_or_ends_too_early_is_told_before_anybody_signs() {
    let fleet = fleet();
    let replace = ["propose", "--replace", "../keys/policy.pub=../keys/new.pub"];
    // A clone that did not fetch the log cannot say where a key ends.
    trust(&fleet, &replace).refused("REF_MISSING");
    fleet.git(&["fetch", "-q", "origin"]).ok();
    trust(&fleet, &replace).ok();
    let text = std::fs::read_to_string(fleet.path("trust/2.yaml")).unwrap();
    let without: String = text
        .split_inclusive('\n')
        .filter(|line| !line.contains("ended") && !line.contains("lastSequence"))
        .collect();
    assert_ne!(text, without);
    std::fs::write(fleet.path("trust/2.yaml"), &without).unwrap();
    let check = trust(&fleet, &["check", "2.yaml", "--log", "../state.git"]);
    check.refused("KEY_ENDED");
    trust(&fleet, &["sign", "2.yaml", "--key", "../keys/root"]).ok();
    let refused = publish(&fleet, "2").refused("REF_REFUSED");
    assert!(refused.says("KEY_ENDED"), "{refused:#?}");
    run("git", &fleet.path("trust"), &["reset", "-q", "HEAD~1"]).ok();
    std::fs::remove_file(fleet.path("trust/2.sig")).unwrap();
    let warned = trust(&fleet, &["check", "2.yaml"]);
    assert!(warned.says("is neither listed nor `ended`"), "{warned:#?}");
    std::fs::remove_file(fleet.path("trust/2.yaml")).unwrap();
    let early = [
        "propose",
        "--end",
        "../keys/author.pub",
        "--last-sequence",
        "0",
    ];
    trust(&fleet, &early).refused("KEY_ENDED");
    assert!(!fleet.path("trust/2.yaml").exists());
}

#[test]
fn an_author_is_added_with_his_scope_and_pushes_within_it() {
    let fleet = fleet();
    let scope = [
        "--environment",
        "dev",
        "--path",
        "environments/dev/web.yaml",
    ];
    let add = ["propose", "--add-author", "web-ci=../keys/new.pub"];
    let narrow = ["--field", "source.commit"];
    trust(&fleet, &[&add[..], &scope, &narrow].concat()).ok();
    trust(&fleet, &["sign", "2.yaml", "--key", "../keys/root"]).ok();
    publish(&fleet, "2").ok();
    fleet.pin("web", 2);
    fleet
        .git(&["config", "user.signingkey", "../keys/new"])
        .ok();
    fleet.commit("Bump web");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 2);
    fleet.refuses("README.md", "mine\n", "PATH_NOT_ALLOWED");
}
