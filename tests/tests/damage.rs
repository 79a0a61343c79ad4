//! What a host loses, or has taken from it, never takes what runs with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::Value;
use tests::fleet::{Fleet, Service};
use tests::host::Host;
use tests::http;

const RULES: &str = "hosts: any\n";

/// A fleet whose service `web` is live on a running host.
struct Running {
    fleet: Fleet,
    host: Host,
    port: u16,
}

impl Running {
    fn new() -> Self {
        let mut web = Service::web("web");
        web.strategy = "{ blueGreen: { bake: 300ms } }";
        let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
        let mut host = fleet.host("one");
        host.start();
        host.wait_for("web is live", "web", is_live);
        let port = web.port.unwrap();
        Self { fleet, host, port }
    }

    fn agent_file(&self, path: &str) -> PathBuf {
        self.host.root().join("var/lib/writ/agent").join(path)
    }

    #[track_caller]
    fn still_serves(&self, text: &str) {
        assert_eq!(http::get(self.port, "/"), Some((200, text.to_owned())));
    }

    /// A new release still goes all the way.
    #[track_caller]
    fn still_deploys(&self, text: &str) {
        let commit = self.fleet.release("web", &format!("text {text}\n"));
        self.host
            .wait_for("the next release is live", "web", |web| {
                is_live(web) && web["running"]["source"] == commit.as_str()
            });
        self.still_serves(text);
    }
}

fn is_live(service: &Value) -> bool {
    service["phase"] == "live" && service["health"] == "healthy"
}

#[test]
fn a_second_agent_is_refused() {
    let running = Running::new();
    running.host.agent(&["run"]).refused("ALREADY_RUNNING");
    running.host.agent(&["once"]).refused("ALREADY_RUNNING");
    running.still_serves("v1");
}

#[test]
fn the_locks_that_a_killed_agent_left_in_its_mirror_stop_nothing() {
    let mut running = Running::new();
    running.host.kill();
    let mirrors = std::fs::read_dir(running.agent_file("mirrors")).unwrap();
    for mirror in mirrors.map(|entry| entry.unwrap().path()) {
        for name in ["incoming/admitted", "verified/fresh", "verified/trust"] {
            std::fs::write(mirror.join(format!("refs/{name}.lock")), "").unwrap();
        }
    }
    running.host.start();
    running.still_deploys("v2");
}

#[test]
fn a_destroyed_journal_is_begun_anew() {
    let mut running = Running::new();
    running.host.kill();
    for file in std::fs::read_dir(running.agent_file("journal"))
        .unwrap()
        .flatten()
    {
        if file.path().is_file() {
            std::fs::write(file.path(), [0xff; 8192]).unwrap();
        }
    }
    running.host.start();
    running.still_deploys("v2");
    let history = running.host.agent(&["history"]).ok().stdout;
    assert!(history.contains("journal was damaged"), "{history}");
}

#[test]
fn a_destroyed_record_is_moved_aside_and_what_runs_is_taken_over() {
    let mut running = Running::new();
    let before = running.host.service("web");
    running.host.kill();
    let record = running.agent_file("services/web/record.json");
    std::fs::write(&record, "{").unwrap();
    running.host.start();
    let after = running.host.wait_for("web is live still", "web", is_live);
    for field in ["release", "slot", "source"] {
        assert_eq!(after["running"][field], before["running"][field], "{field}");
    }
    running.still_serves("v1");
    let history = running.host.agent(&["history"]).ok().stdout;
    assert!(history.contains("RECORD_DAMAGED"), "{history}");
    tests::earned::earn_here("RECORD_DAMAGED");
    running.still_deploys("v2");
}

#[test]
fn a_record_that_a_newer_version_wrote_is_left_alone_and_taken_up_again() {
    let mut running = Running::new();
    running.host.kill();
    let path = running.agent_file("services/web/record.json");
    let written = std::fs::read(&path).unwrap();
    let record: Value = serde_json::from_slice(&written).unwrap();
    for (field, value) in [
        ("/format", Value::from(2)),
        ("/deployment/phase", "observing".into()),
    ] {
        let mut newer = record.clone();
        *newer.pointer_mut(field).unwrap() = value;
        std::fs::write(&path, newer.to_string()).unwrap();
        running.host.start();
        running.host.wait_for("web is left alone", "web", |web| {
            web["held"]["code"] == "STATE_NEWER"
        });
        running.host.agent(&["hold", "web"]).refused("STATE_NEWER");
        tests::earned::earn_here("STATE_NEWER");
        running.still_serves("v1");
        running.host.kill();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            newer.to_string().into_bytes()
        );
    }
    std::fs::write(&path, written).unwrap();
    running.host.start();
    running.still_deploys("v2");
}

#[test]
fn a_state_repository_that_is_gone_or_emptied_changes_nothing() {
    let running = Running::new();
    let (state, away) = (
        running.fleet.path("state.git"),
        running.fleet.path("away.git"),
    );
    std::fs::rename(&state, &away).unwrap();
    let refused = |host: &Host| host.status()["pass"]["refused"]["code"].clone();
    tests::wait::until(
        "the pass is refused",
        std::time::Duration::from_secs(20),
        || (refused(&running.host) == "FETCH_FAILED").then_some(()),
    );
    running.still_serves("v1");
    assert_eq!(running.host.agent(&["status"]).code, 1);
    std::fs::rename(&away, &state).unwrap();
    running.still_deploys("v2");
}

#[test]
fn a_full_disk_is_not_called_a_bad_url_and_the_host_goes_on_when_there_is_room() {
    let mut web = Service::web("web");
    web.strategy = "{ blueGreen: { bake: 300ms } }";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host_on_small_disk("one", "300m");
    host.start();
    host.wait_for("web is live", "web", is_live);
    let filler = host.state().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let larger = std::iter::repeat_n(vec![1; 1 << 20], 1000);
    let blocks = larger.chain(std::iter::repeat_n(vec![1; 1 << 12], 1000));
    for block in blocks {
        let _ = file.write_all(&block);
    }
    // More than fits into what a file that is there already has left in its last block.
    let noise: String = (0..40_000).map(|n: u32| format!("{}\n", n * n)).collect();
    fleet.write("notes", &noise);
    let commit = fleet.release("web", "text v2\n");
    let refused = || {
        let pass = host.status()["pass"]["refused"].clone();
        (!pass.is_null()).then_some(pass)
    };
    let refused = tests::wait::until("a refusal", std::time::Duration::from_secs(30), refused);
    assert_eq!(refused["code"], "DISK_FULL", "{refused}");
    assert_eq!(
        http::get(web.port.unwrap(), "/"),
        Some((200, "v1".to_owned()))
    );
    drop(file);
    std::fs::remove_file(filler).unwrap();
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == commit.as_str()
    });
}

#[test]
fn an_address_that_somebody_else_holds_fails_the_deployment_only() {
    let running = Running::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let path = running.fleet.path("state/services/web/service.yaml");
    let base = std::fs::read_to_string(path).unwrap();
    let moved = base.replace(&format!(":{}\"", running.port), &format!(":{port}\""));
    running.fleet.write("services/web/service.yaml", &moved);
    running.fleet.commit("Move web").ok();
    running.fleet.push().ok();
    running.host.wait_for("the release is held", "web", |web| {
        web["held"]["code"] == "LISTEN_IN_USE" && web["phase"] == "live"
    });
    running.still_serves("v1");
    drop(taken);
    running.host.agent(&["retry", "web"]).ok();
    running.host.wait_for("web has moved", "web", |web| {
        is_live(web) && web["held"].is_null()
    });
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
}

#[test]
fn a_killed_proxy_is_started_again() {
    let running = Running::new();
    let comm = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_proxy = |pid: &u32| String::from_utf8_lossy(&comm(pid)).contains("proxy\0");
    let proxy = running.host.processes().into_iter().find(is_proxy).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(proxy).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    tests::wait::until(
        "the proxy serves again",
        std::time::Duration::from_secs(20),
        || http::get(running.port, "/").filter(|answer| answer.0 == 200),
    );
}
