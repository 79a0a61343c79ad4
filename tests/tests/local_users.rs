//! What another account of the machine, or another process, can and cannot do to an agent and to policy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::fleet::{Fleet, Service};
use tests::program::Outcome;

const RULES: &str = "hosts: any\n";

/// An account and a group that nobody has.
const STRANGER: u32 = 54_321;
const LOOKERS: u32 = 54_322;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Opens `path` as earlier versions left it, readable by all, and holds its lock.
fn held(path: &Path) -> File {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.set_permissions(Permissions::from_mode(0o644)).unwrap();
    file.lock().unwrap();
    file
}

/// Asserts that this process is named as the one that holds the lock.
#[track_caller]
fn names_this_process(said: &Outcome) {
    let this = format!("process {} ('", std::process::id());
    assert!(said.all().contains(&this), "{}", said.all());
}

#[test]
fn a_held_lock_keeps_an_agent_from_starting_and_its_holder_is_named() {
    let fleet = Fleet::new(RULES, &[]);
    let host = fleet.host("one");
    let path = host.state().join("agent.lock");
    let lock = held(&path);
    for command in ["run", "once"] {
        let said = host.agent(&[command]);
        names_this_process(&said);
        said.refused("ALREADY_RUNNING");
    }
    drop(lock);
    host.agent(&["once"]).ok();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_push_waits_for_a_held_lock_only_so_long_and_is_admitted_later() {
    let fleet = Fleet::new(RULES, &[]);
    let lock = held(&fleet.path("state.git/writ/lock"));
    fleet.add(&Service::web("web"));
    fleet.commit("Add a service").ok();
    let begun = Instant::now();
    let pushed = fleet.push();
    assert!(begun.elapsed() < Duration::from_secs(60), "{pushed:?}");
    assert!(pushed.all().contains("waiting for process"), "{pushed:?}");
    names_this_process(&pushed);
    let admit = || fleet.policy(&["admit", "state.git", "--key", "keys/policy"]);
    admit().refused("LOCK_HELD");
    drop(lock);
    let said = admit().ok();
    assert!(said.all().contains("admitted as 2"), "{said:?}");
    assert_eq!(mode(&fleet.path("state.git/writ/lock")), 0o600);
}

#[test]
fn whoever_shares_a_repository_shares_its_lock() {
    let fleet = Fleet::new(RULES, &[]);
    let folder = fleet.path("state.git/writ");
    fs::set_permissions(&folder, Permissions::from_mode(0o2770)).unwrap();
    fs::remove_file(folder.join("lock")).unwrap();
    fleet
        .policy(&["admit", "state.git", "--key", "keys/policy"])
        .ok();
    assert_eq!(mode(&folder.join("lock")) & 0o007, 0);
    fs::set_permissions(folder.join("lock"), Permissions::from_mode(0o664)).unwrap();
    fleet
        .policy(&["admit", "state.git", "--key", "keys/policy"])
        .ok();
    assert_eq!(mode(&folder.join("lock")), 0o660);
}

#[test]
fn an_account_that_may_not_ask_the_agent_is_told_so() {
    let fleet = Fleet::new(RULES, &[Service::web("web")]);
    let mut host = fleet.host("one");
    // Others may pass, so that it is the socket that they do not get by.
    fs::set_permissions(fleet.path(""), Permissions::from_mode(0o711)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        host.start_with(|agent| {
            agent.gid(LOOKERS);
        });
    } else {
        host.start();
    }
    host.wait_for("v1 is live", "web", |web| web["phase"] == "live");
    if !is_root {
        let socket = host.root().join("run/writ/agent.sock");
        fs::set_permissions(socket, Permissions::from_mode(0o000)).unwrap();
        host.agent(&["status"]).refused("PERMISSION_DENIED");
        return;
    }
    for args in [&["status"][..], &["hold", "web"]] {
        let said = host.agent_as(STRANGER, STRANGER, args);
        said.refused("PERMISSION_DENIED");
    }
    let looked = host.agent_as(STRANGER, LOOKERS, &["status"]);
    assert!(looked.ok().stdout.contains("web"));
    host.agent_as(STRANGER, LOOKERS, &["history", "web"]).ok();
    for args in [
        &["hold", "web"][..],
        &["rollback", "web"],
        &["apply", "--stale", "--reason", "none"],
        &["apply", "--lift"],
    ] {
        host.agent_as(STRANGER, LOOKERS, args)
            .refused("PERMISSION_DENIED");
    }
    host.agent(&["hold", "web"]).ok();
}
