//! What a slot leaves behind when its supervisor is killed: nothing that runs on, and no client that waits for a person.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, is_live};
use tests::program::binary;
use tests::{http, wait};

const RULES: &str = "hosts: any\n";
const SOON: Duration = Duration::from_secs(20);

/// Runs the service as the slot's own process.
const PLAIN: &str = "exec SERVICE";
/// Ignores the request to end, and so does the service, which became a daemon: another session, and no parent.
const DAEMON: &str = "trap '' TERM; (setsid SERVICE &); while :; do sleep 1; done";
/// A daemon that took even its variables off, so that nothing says whose it is.
const STRANGER: &str = "(env -i PORT=$PORT setsid SERVICE &); exec sleep 600";

/// A process, which is not another one that has its number later.
type Process = (u32, u64);

/// The process that has the number now, unless it is dead.
fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    // Field 22 of stat, counted from 1; the split leaves out two.
    (fields[0] != "Z").then(|| Some((pid, fields[19].parse().ok()?)))?
}

fn is_alive(known: &Process) -> bool {
    process(known.0) == Some(*known)
}

fn signal(process: &Process, signal: Signal) {
    let pid = Pid::from_raw(process.0.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A host on which `web` is live, started by a script, beside `other`.
struct Running {
    fleet: Fleet,
    host: Host,
    port: u16,
    _scripts: TempDir,
}

impl Running {
    fn new(script: &str) -> Self {
        Self::with(script, |_| ())
    }

    /// The same, after `change` of the host's settings.
    fn with(script: &str, change: impl FnOnce(&Host)) -> Self {
        let scripts = tempfile::tempdir().unwrap();
        fs::set_permissions(scripts.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = scripts.path().join("start");
        let service = binary("service").display().to_string();
        let text = format!("#!/bin/sh\n{}\n", script.replace("SERVICE", &service));
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let bake = "{ blueGreen: { bake: 300ms } }";
        let mut web = Service::web("web");
        web.strategy = bake;
        web.program = program;
        let mut other = Service::web("other");
        other.strategy = bake;
        let fleet = Fleet::new(RULES, &[]);
        fleet.add(&web);
        fleet.add(&other);
        let file = "state/services/web/service.yaml";
        let text = fs::read_to_string(fleet.path(file)).unwrap();
        let stopped = text.replace("run: {", "run: { stop: { within: 1s },");
        fleet.write("services/web/service.yaml", &stopped);
        fleet.commit("Add the services").ok();
        fleet.push().ok();
        let mut host = fleet.host("one");
        change(&host);
        host.start();
        host.wait_for("web is live", "web", is_live);
        host.wait_for("other is live", "other", is_live);
        Self {
            fleet,
            host,
            port: web.port.unwrap(),
            _scripts: scripts,
        }
    }

    fn slot(&self, service: &str, file: &str) -> PathBuf {
        let record = self.record(service);
        let slots = record["slots"].as_object().unwrap();
        let (slot, _) = slots.iter().find(|(_, o)| o["role"] == "stable").unwrap();
        self.host
            .services()
            .join(service)
            .join("slots")
            .join(slot)
            .join(file)
    }

    fn record(&self, service: &str) -> Value {
        let text = fs::read(self.host.services().join(service).join("record.json"));
        serde_json::from_slice(&text.unwrap()).unwrap()
    }

    /// The port that `web` was given.
    fn given_port(&self) -> u16 {
        let record = self.record("web");
        let slots = record["slots"].as_object().unwrap();
        let stable = slots.values().find(|o| o["role"] == "stable").unwrap();
        let address = stable["address"]["tcp"].as_str().unwrap();
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    fn shim(&self, service: &str) -> Process {
        let text = fs::read(self.slot(service, "state.json")).unwrap();
        let state: Value = serde_json::from_slice(&text).unwrap();
        let supervisor = &state["supervisor"];
        let pid = u32::try_from(supervisor["pid"].as_u64().unwrap()).unwrap();
        (pid, supervisor["started"].as_u64().unwrap())
    }

    /// The processes below the shim of a service.
    fn below_shim(&self, service: &str) -> Vec<Process> {
        let mut found = vec![self.shim(service).0];
        let mut below = Vec::new();
        while let Some(parent) = found.pop() {
            let children = format!("/proc/{parent}/task/{parent}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            for child in children.split_whitespace() {
                let child = child.parse().unwrap();
                found.push(child);
                below.extend(process(child));
            }
        }
        below
    }

    /// Waits until clients are answered, and none of `old` is left.
    #[track_caller]
    fn recovers_without(&self, old: &[Process]) {
        wait::until("nothing of the old slot is left", SOON, || {
            (!old.iter().any(is_alive)).then_some(())
        });
        wait::until("clients are answered again", SOON, || {
            http::get(self.port, "/").filter(|answer| *answer == (200, "v1".to_owned()))
        });
        self.host.wait_for("web is healthy", "web", |web| {
            web["health"] == "healthy" && web["restart"].is_null()
        });
    }
}

#[test]
fn a_killed_supervisor_is_replaced_and_nothing_of_its_slot_is_left() {
    for script in [PLAIN, DAEMON] {
        let mut running = Running::new(script);
        let other = running.below_shim("other");
        for with_agent in [false, true] {
            let (shim, old) = (running.shim("web"), running.below_shim("web"));
            assert!(!old.is_empty(), "{script}");
            if with_agent {
                running.host.kill();
            }
            signal(&shim, Signal::KILL);
            if with_agent {
                running.host.start();
            }
            running.recovers_without(&old);
            assert_ne!(running.shim("web"), shim, "{script}");
        }
        assert!(!other.is_empty() && other.iter().all(is_alive), "{script}");
        // What came after it can be replaced as ever.
        let commit = running.fleet.release("web", "text v2\n");
        running.host.wait_for("v2 is live", "web", |web| {
            is_live(web) && web["running"]["source"] == commit.as_str()
        });
    }
}

#[test]
fn a_damaged_state_of_a_slot_hides_none_of_its_processes() {
    let mut running = Running::new(DAEMON);
    let (shim, old) = (running.shim("web"), running.below_shim("web"));
    running.host.kill();
    fs::write(running.slot("web", "state.json"), "{").unwrap();
    running.host.start();
    running.recovers_without(&[&[shim], &old[..]].concat());
}

#[test]
fn a_port_that_a_stranger_holds_is_not_used_again() {
    let running = Running::new(STRANGER);
    let (port, old) = (running.given_port(), running.below_shim("web"));
    signal(&running.shim("web"), Signal::KILL);
    wait::until("another port", SOON, || {
        (running.given_port() != port).then_some(())
    });
    let stranger = old.iter().find(|process| is_alive(process)).unwrap();
    wait::until("the history says who holds it", SOON, || {
        let history = running.host.agent(&["history", "web"]).ok().stdout;
        let held = format!(
            "127.0.0.1:{port} is listened at by process {} (service)",
            stranger.0
        );
        history.contains(&held).then_some(())
    });
    assert!(is_alive(stranger), "nobody knows whose it is");
    signal(stranger, Signal::KILL);
    running.recovers_without(&old);
}

#[test]
fn a_port_that_was_taken_while_nobody_listened_is_not_used_again() {
    let running = Running::new(PLAIN);
    let (port, old) = (running.given_port(), running.below_shim("web"));
    signal(&old[0], Signal::KILL);
    let thief = wait::until("the port is free", SOON, || {
        TcpListener::bind(("127.0.0.1", port)).ok()
    });
    wait::until("another port", SOON, || {
        (running.given_port() != port).then_some(())
    });
    drop(thief);
    running.recovers_without(&old);
}

#[test]
fn who_keeps_a_slot_from_being_started_is_told_until_it_is() {
    let running = Running::with(STRANGER, |host| {
        // One for each service, and none to spare.
        let first = *host.ports().start();
        host.configure("ports", json!(format!("{first}-{}", first + 1)));
    });
    let (port, old) = (running.given_port(), running.below_shim("web"));
    signal(&running.shim("web"), Signal::KILL);
    let told = running.host.wait_for("the restart fails", "web", |web| {
        web["restart"]["code"] == "PORTS_EXHAUSTED"
    });
    let stranger = old.iter().find(|process| is_alive(process)).unwrap();
    let held = format!("{port} is listened at by process {} (service)", stranger.0);
    let detail = told["restart"]["detail"].as_str().unwrap();
    assert!(detail.contains(&held), "{detail}");
    for command in [&["status"][..], &["why", "web"]] {
        let said = running.host.agent(command);
        assert!(said.stdout.contains(&held), "{}", said.all());
    }
    signal(stranger, Signal::KILL);
    running.recovers_without(&old);
}
