//! Releases on a host: swapped in, recreated, stopped, removed. Those that cannot work are in `bad_releases.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tests::fleet::{Fleet, Service};
use tests::host::Host;
use tests::{http, wait};

const RULES: &str = "hosts: any\n";

fn is_live(service: &Value) -> bool {
    service["phase"] == "live" && service["health"] == "healthy"
}

fn is_held(code: &'static str) -> impl Fn(&Value) -> bool {
    move |service| service["held"]["code"] == code && service["phase"] == "live"
}

fn runs(commit: &str) -> impl Fn(&Value) -> bool {
    move |service| is_live(service) && service["running"]["source"] == commit
}

/// A fleet whose first release of `service` is live on a running host.
fn live(service: &Service) -> (Fleet, Host) {
    let fleet = Fleet::new(RULES, std::slice::from_ref(service));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("the first release is live", service.name, is_live);
    (fleet, host)
}

fn text(service: &Service) -> Option<String> {
    http::get(service.port.unwrap(), "/").map(|(_, body)| body)
}

#[test]
fn a_second_release_takes_the_other_slot() {
    let web = Service::web("web");
    let (fleet, host) = live(&web);
    assert_eq!(host.service("web")["running"]["slot"], "blue");
    let commit = fleet.release("web", "text v2\n");
    let service = host.wait_for("v2 is live", "web", runs(&commit));
    assert_eq!(service["running"]["slot"], "green");
    assert_eq!(text(&web).as_deref(), Some("v2"));
    assert_eq!(host.agent(&["status"]).code, 0);
    let logs = host.agent(&["logs", "web"]).ok();
    assert_eq!(logs.stdout, "started: v2\n");
    let plan = host.agent(&["plan"]).ok();
    assert!(
        plan.stdout.contains("web: nothing to do"),
        "{}",
        plan.stdout
    );
}

#[test]
fn a_log_is_followed_from_slot_to_slot_until_ctrl_c() {
    let web = Service::web("web");
    let (fleet, host) = live(&web);
    let output = fleet.path("hosts/followed");
    let mut logs = host.spawn(&["logs", "web", "--follow"], &output);
    let shows = |line: &str| {
        wait::until(line, Duration::from_secs(30), || {
            let text = std::fs::read_to_string(&output).unwrap();
            text.contains(line).then_some(text)
        })
    };
    shows("started: v1\n");
    let commit = fleet.release("web", "text v2\u{1b}[2J\n");
    host.wait_for("v2 is live", "web", runs(&commit));
    shows("started: v2\\u{1b}[2J\n");
    let commit = fleet.release("web", "text v3\n");
    host.wait_for("v3 is live", "web", runs(&commit));
    let text = shows("started: v3\n");
    let began: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("started"))
        .collect();
    assert_eq!(began.len(), 3, "each once, in order: {text}");
    let pid = Pid::from_raw(i32::try_from(logs.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let ended = wait::until("it ends", Duration::from_secs(10), || {
        logs.try_wait().unwrap()
    });
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_first_release_that_fails_leaves_an_address_that_answers_503() {
    let web = Service::web("web");
    let fleet = Fleet::new(RULES, &[]);
    fleet.add(&web);
    let commit = fleet.source("web", "exit-now\n");
    let overlay = format!("source: {{ commit: \"{commit}\" }}\n");
    fleet.write("environments/dev/web.yaml", &overlay);
    fleet.commit("Add web").ok();
    fleet.push().ok();
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is held", "web", |web| {
        web["held"]["code"] == "PROCESS_EXITED" && web["phase"] == "failed"
    });
    let status = http::get(web.port.unwrap(), "/").map(|(status, _)| status);
    assert_eq!(status, Some(503));
    let commit = fleet.release("web", "text v2\n");
    host.wait_for("v2 is live", "web", runs(&commit));
    assert_eq!(text(&web).as_deref(), Some("v2"));
}

#[test]
fn a_worker_is_recreated_and_brought_back_when_the_new_one_dies() {
    let mut worker = Service::worker("worker");
    worker.strategy = "{ recreate: { bake: 2s } }";
    let fleet = Fleet::new(RULES, &[]);
    fleet.add(&worker);
    let commit = fleet.source("worker", "text v1\ndeaf\n");
    let overlay = format!("source: {{ commit: \"{commit}\" }}\n");
    fleet.write("environments/dev/worker.yaml", &overlay);
    fleet.commit("Add worker").ok();
    fleet.push().ok();
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "worker", runs(&commit));
    let commit = fleet.release("worker", "text v2\ndeaf\n");
    host.wait_for("v2 is live", "worker", runs(&commit));
    fleet.release("worker", "text v3\ndeaf\nexit-after 1000\n");
    host.wait_for("v3 is held", "worker", is_held("PROCESS_EXITED"));
    host.wait_for("v2 runs again", "worker", runs(&commit));
}

#[test]
fn services_do_not_wait_for_one_another() {
    let mut slow = Service::web("slow");
    slow.build = r#"[ { run: [ sleep, "15" ] } ]"#;
    let web = Service::web("web");
    let fleet = Fleet::new(RULES, &[slow.clone(), web.clone()]);
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", is_live);
    assert_eq!(host.service("slow")["phase"], "building");
    let commit = fleet.release("slow", "text v2\n");
    host.wait_for("a newer release takes its place", "slow", |slow| {
        slow["deployment"]["source"] == commit.as_str() && slow["phase"] == "building"
    });
    host.wait_for("slow is live at last", "slow", runs(&commit));
    let history = host.agent(&["history", "slow"]).ok().stdout;
    assert!(history.contains("SUPERSEDED"), "{history}");
    tests::earned::earn_here("SUPERSEDED");
}

#[test]
fn a_stopped_service_stops_and_an_absent_one_leaves_only_its_data() {
    let web = Service::web("web");
    let (fleet, host) = live(&web);
    let pin = std::fs::read_to_string(fleet.path("state/environments/dev/web.yaml")).unwrap();
    let say = |state: &str| {
        fleet.write(
            "environments/dev/web.yaml",
            &format!("{pin}state: {state}\n"),
        );
        fleet.commit(state).ok();
        fleet.push().ok();
    };
    say("stopped");
    host.wait_for("web is stopped", "web", |web| web["phase"] == "stopped");
    assert_eq!(
        http::get(web.port.unwrap(), "/").map(|(status, _)| status),
        Some(503)
    );
    assert_eq!(host.agent(&["status"]).code, 0);
    say("running");
    host.wait_for("web is live again", "web", is_live);
    assert_eq!(text(&web).as_deref(), Some("v1"));
    say("absent");
    host.wait_for("web is gone", "web", Value::is_null);
    assert_eq!(http::get(web.port.unwrap(), "/"), None);
    let service = host.root().join("var/lib/writ/agent/services/web");
    let left: Vec<_> = std::fs::read_dir(service).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].file_name(), "data");
}
