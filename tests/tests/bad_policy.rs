//! Policy in a bad way: without its key, without its log, too fast, or overtaken. It signs nothing that it should not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::is_live;
use tests::program::{self, Outcome};

fn fleet(rules: &str) -> Fleet {
    Fleet::new(rules, &[Service::web("web")])
}

/// Runs git in the served repository.
fn served(fleet: &Fleet, args: &[&str]) -> Outcome {
    let mut git = program::command("git", fleet.path("").as_path());
    program::run(git.arg("-C").arg(fleet.path("state.git")).args(args))
}

fn admit(fleet: &Fleet, key: &str) -> Outcome {
    fleet.policy(&["admit", "state.git", "--key", key])
}

/// Where the branches of the served repository point.
fn branches(fleet: &Fleet) -> String {
    served(fleet, &["for-each-ref"]).ok().stdout
}

/// Asserts that policy refuses to admit with `code` and moves nothing.
#[track_caller]
fn admits_nothing(fleet: &Fleet, key: &str, code: &str) {
    let before = branches(fleet);
    admit(fleet, key).refused(code);
    assert_eq!(branches(fleet), before);
}

#[test]
fn without_its_key_policy_admits_nothing() {
    let fleet = fleet("hosts: any\n");
    admits_nothing(&fleet, "keys/absent", "POLICY_KEY_MISSING");
    // One that root never listed.
    fleet.policy(&["keygen", "keys/other"]).ok();
    admits_nothing(&fleet, "keys/other", "POLICY_KEY_UNLISTED");
    // One that others can read.
    fs::set_permissions(fleet.path("keys/policy"), Permissions::from_mode(0o644)).unwrap();
    admits_nothing(&fleet, "keys/policy", "KEY_UNUSABLE");
    fs::set_permissions(fleet.path("keys/policy"), Permissions::from_mode(0o600)).unwrap();
    admit(&fleet, "keys/policy").ok();
}

#[test]
fn without_a_repository_that_is_fit_for_it_policy_admits_nothing() {
    let fleet = fleet("hosts: any\n");
    let admit = |path: &str| fleet.policy(&["admit", path, "--key", "keys/policy"]);
    let config = fleet.path("state.git/config");
    let settings = fs::read(&config).unwrap();
    fs::write(&config, "[core\n").unwrap();
    admit("state.git").refused("REPOSITORY_UNUSABLE");
    fs::write(&config, settings).unwrap();
    admit("state.git").ok();
    let mut git = program::command("git", fleet.path("").as_path());
    git.args(["init", "-q", "--bare", "--object-format=sha256"]);
    program::run(git.arg(fleet.path("sha256.git"))).ok();
    admit("sha256.git").refused("REPOSITORY_UNSUPPORTED");
}

#[test]
fn a_log_that_does_not_verify_is_not_built_upon() {
    let fleet = fleet("hosts: any\n");
    let honest = served(&fleet, &["rev-parse", "admitted"]).ok().stdout;
    let tree = served(&fleet, &["rev-parse", "admitted~1^{tree}"])
        .ok()
        .stdout;
    let eve = ["-c", "user.name=eve", "-c", "user.email=eve@example.org"];
    let rewrite = ["commit-tree", "-m", "Mine", tree.trim()];
    let forged = served(&fleet, &[&eve[..], &rewrite].concat()).ok().stdout;
    served(
        &fleet,
        &["update-ref", "refs/heads/admitted", forged.trim()],
    )
    .ok();
    admits_nothing(&fleet, "keys/policy", "POLICY_STATE_BAD");
    served(
        &fleet,
        &["update-ref", "refs/heads/admitted", honest.trim()],
    )
    .ok();
    admit(&fleet, "keys/policy").ok();
}

#[test]
fn another_manifest_for_a_sequence_that_was_signed_is_never_signed() {
    let fleet = fleet("hosts: any\n");
    let first = ["admitted", "fresh"].map(|branch| {
        let id = served(&fleet, &["rev-parse", branch]).ok().stdout;
        (format!("refs/heads/{branch}"), id.trim().to_owned())
    });
    for version in ["v2", "v3"] {
        fleet.release("web", &format!("text {version}\n"));
    }
    // Somebody restored an old backup of the repository.
    for (branch, id) in &first {
        served(&fleet, &["update-ref", branch, id]).ok();
    }
    // The backup knows nothing of what policy saw later, but what was signed last is still there.
    fs::remove_file(fleet.path("state.git/writ/checkpoint")).unwrap();
    admits_nothing(&fleet, "keys/policy", "SIGN_EQUIVOCATION");
}

#[test]
fn what_a_newer_policy_has_signed_here_is_left_to_it() {
    let fleet = fleet("hosts: any\n");
    let signed = fleet.path("state.git/writ/signed");
    let honest = fs::read_to_string(&signed).unwrap();
    fs::write(&signed, honest.replace("manifest v1", "manifest v2")).unwrap();
    admits_nothing(&fleet, "keys/policy", "MANIFEST_NEWER");
    assert!(fs::read_to_string(&signed).unwrap().contains("v2"));
    fs::write(&signed, honest).unwrap();
    admit(&fleet, "keys/policy").ok();
}

#[test]
fn what_only_freshness_still_tells_of_is_restored_from_a_host() {
    let fleet = fleet("hosts: any\n");
    let first = served(&fleet, &["rev-parse", "admitted"]).ok().stdout;
    fleet.release("web", "text v2\n");
    let second = served(&fleet, &["rev-parse", "admitted"]).ok().stdout;
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", is_live);
    host.kill();
    let set_back = ["update-ref", "refs/heads/admitted", first.trim()];
    served(&fleet, &set_back).ok();
    for name in ["checkpoint", "signed", "evidence"] {
        fs::remove_file(fleet.path("state.git/writ").join(name)).unwrap();
    }
    admits_nothing(&fleet, "keys/policy", "SIGN_EQUIVOCATION");
    // As the message says.
    let mirrors = fs::read_dir(host.state().join("mirrors")).unwrap();
    let mirrors = mirrors.map(|entry| entry.unwrap().path());
    let mirror = mirrors.filter(|path| path.extension().is_some_and(|git| git == "git"));
    let mirror = mirror.last().unwrap();
    let refspec = "+refs/verified/admitted:refs/heads/admitted";
    served(&fleet, &["fetch", "-q", mirror.to_str().unwrap(), refspec]).ok();
    admit(&fleet, "keys/policy").ok();
    let restored = served(&fleet, &["rev-parse", "admitted"]).ok().stdout;
    assert_eq!(restored, second);
}

#[test]
fn what_comes_too_fast_waits_or_is_refused() {
    for (rules, code) in [
        ("hosts: any\nrate: { perHour: 1 }\n", "RATE_LIMITED"),
        ("hosts: any\ncooldown: 1h\n", "COOLDOWN"),
    ] {
        let fleet = fleet(rules);
        fleet.release("web", "text v2\n");
        let pending = fleet.policy(&["pending", "state.git"]);
        assert_eq!(pending.code, 75, "{}", pending.all());
        assert!(pending.all().contains(code), "{}", pending.all());
        earn_here(code);
    }
    let fleet = fleet("hosts: any\ncooldown: 1h\nonCooldown: refuse\n");
    let before = branches(&fleet);
    let pin = format!("source: {{ commit: \"{}\" }}\n", "12".repeat(20));
    fleet.write("environments/dev/web.yaml", &pin);
    fleet.commit("Release web").ok();
    fleet.push().refused("COOLDOWN");
    assert_eq!(branches(&fleet), before);
}

#[test]
fn a_service_that_vanishes_from_the_repository_is_not_taken_away() {
    let fleet = fleet("hosts: any\n");
    let before = branches(&fleet);
    fs::remove_file(fleet.path("state/environments/dev/web.yaml")).unwrap();
    fleet.commit("Forget web").ok();
    fleet.push().refused("REMOVAL_REFUSED");
    assert_eq!(branches(&fleet), before);
}

/// Has CI release `web` from the author's clone.
fn release(fleet: &Fleet) -> Outcome {
    let commit = "12".repeat(20);
    let args = [
        "release",
        "web",
        "--environment",
        "dev",
        "--commit",
        &commit,
        "--push",
    ];
    let mut policy = program::command(program::binary("policy"), fleet.path("").as_path());
    program::run(policy.args(args).current_dir(fleet.path("state")))
}

#[test]
fn a_release_that_the_remote_refuses_is_taken_back() {
    let fleet = fleet("hosts: any\ncooldown: 1h\nonCooldown: refuse\n");
    let head = fleet.in_state(&["rev-parse", "HEAD"]).ok().stdout;
    release(&fleet).refused("PUSH_FAILED");
    assert_eq!(fleet.in_state(&["rev-parse", "HEAD"]).ok().stdout, head);
}

#[test]
fn a_release_from_a_clone_that_went_its_own_way_is_not_forced() {
    let fleet = fleet("hosts: any\n");
    let base = fleet.in_state(&["rev-parse", "HEAD"]).ok().stdout;
    fleet.write(
        "environments/dev/environment.yaml",
        "hosts: any\nmaxRemovals: 2\n",
    );
    fleet.commit("Somebody else's").ok();
    fleet.push().ok();
    let theirs = branches(&fleet);
    fleet.in_state(&["reset", "-q", "--hard", base.trim()]).ok();
    fleet.write(
        "environments/dev/environment.yaml",
        "hosts: any\nmaxRemovals: 3\n",
    );
    fleet.commit("Never pushed").ok();
    release(&fleet).refused("LOST_RACE");
    assert_eq!(branches(&fleet), theirs);
}

#[test]
fn what_an_agent_would_refuse_is_not_signed() {
    let fleet = fleet("hosts: any\n");
    // What authors write stays within root's bounds; what it renders to, once for each service, does not.
    limit_trees(&fleet, "300KiB");
    for name in ["api", "job"] {
        fleet.add(&Service::web(name));
    }
    let long = "x".repeat(100_000);
    let rules =
        format!("hosts: any\ndefaults: {{ run: {{ environment: {{ LONG: \"{long}\" }} }} }}\n");
    fleet.write("environments/dev/environment.yaml", &rules);
    fleet.commit("Say it in every service").ok();
    let pushed = fleet.push();
    assert!(
        pushed.all().contains("SELF_CHECK_FAILED"),
        "{}",
        pushed.all()
    );
    admits_nothing(&fleet, "keys/policy", "SELF_CHECK_FAILED");
    // The way out.
    fleet.write("environments/dev/environment.yaml", "hosts: any\n");
    fleet.commit("Say less").ok();
    fleet.push().ok();
    admit(&fleet, "keys/policy").ok();
}

/// Publishes the next trust file, in which a tree has at most `bytes`.
fn limit_trees(fleet: &Fleet, bytes: &str) {
    fleet.in_state(&["switch", "-q", "trust"]).ok();
    let first = fs::read_to_string(fleet.path("state/1.yaml")).unwrap();
    let hash = state::digest::Sha256Hash::of(first.as_bytes());
    let next = format!("version: 2\nprev: sha256:{hash}\n");
    let second = first.replace("version: 1\n", &next);
    let limits = format!("limits: {{ files: 100, bytes: {bytes} }}\n");
    fleet.write("2.yaml", &(second + &limits));
    let mut sign = program::command("ssh-keygen", fleet.path("").as_path());
    sign.args(["-q", "-Y", "sign", "-n", "trust@writ", "-f"]);
    program::run(
        sign.arg(fleet.path("keys/root"))
            .arg(fleet.path("state/2.yaml")),
    )
    .ok();
    fs::rename(fleet.path("state/2.yaml.sig"), fleet.path("state/2.sig")).unwrap();
    fleet.commit("Trust version 2").ok();
    fleet.in_state(&["push", "-q", "origin", "trust"]).ok();
    fleet.in_state(&["switch", "-q", "main"]).ok();
}
