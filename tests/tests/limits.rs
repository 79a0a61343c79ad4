//! The host's own limits: a flood of valid releases waits its turn, and nothing else is slowed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use serde_json::{Value, json};
use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::{http, wait};

const RULES: &str = "hosts: any\n";

fn runs(commit: &str) -> impl Fn(&Value) -> bool {
    move |service| is_live(service) && service["running"]["source"] == commit
}

/// A fleet with `services`, and a host whose agent has `limits` and is not started.
fn limited(services: &[Service], limits: Value) -> (Fleet, Host) {
    let fleet = Fleet::new(RULES, services);
    let host = fleet.host("one");
    host.configure("limits", limits);
    (fleet, host)
}

fn web() -> Service {
    Service {
        strategy: "{ blueGreen: { bake: 100ms } }",
        ..Service::web("web")
    }
}

/// Waits until the newest release of `web` waits because of `code`, while `commit` runs; returns until when it waits.
#[track_caller]
fn waits(host: &Host, code: &str, commit: &str) -> String {
    let web = host.wait_for(code, "web", |web| {
        hold_code(web) == Some(code) && runs(commit)(web)
    });
    assert_eq!(web["held"]["kind"], "limited");
    earn_here(code);
    web["held"]["until"].as_str().unwrap().to_owned()
}

#[test]
fn a_flood_of_valid_releases_waits_and_going_back_does_not() {
    let web = web();
    let port = web.port.unwrap();
    let (fleet, mut host) = limited(&[web], json!({ "cooldown": "0s", "perHour": 3 }));
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let second = fleet.release("web", "text v2\n");
    host.wait_for("v2 is live", "web", runs(&second));
    let third = fleet.release("web", "text v3\n");
    host.wait_for("v3 is live", "web", runs(&third));
    let fourth = fleet.release("web", "text v4\n");
    let until = waits(&host, "RATE_LIMITED", &third);
    let shown = until[..16].replace('T', " ");
    for (command, says) in [
        (&["status"][..], "waits: RATE_LIMITED"),
        (&["why", "web"], "goes on at"),
        (&["plan", "web"], "waits until"),
    ] {
        let said = host.agent(command).stdout;
        assert!(said.contains(says) && said.contains(&shown), "{said}");
    }

    host.agent(&["rollback", "web"]).ok();
    host.wait_for("v2 is back", "web", runs(&second));
    host.agent(&["resume", "web"]).ok();
    waits(&host, "RATE_LIMITED", &second);
    fleet.pin("web", &third);
    host.wait_for("the pin went back to v3", "web", runs(&third));
    assert_eq!(http::get(port, "/"), Some((200, "v3".to_owned())));

    fleet.pin("web", &fourth);
    waits(&host, "RATE_LIMITED", &third);
    host.agent(&["retry", "web"]).ok();
    host.wait_for("an operator does not wait", "web", runs(&fourth));
}

#[test]
fn a_cooldown_outlives_the_agent_and_delays_no_repair() {
    let web = web();
    let port = web.port.unwrap();
    let (fleet, mut host) = limited(&[web], json!({ "cooldown": "1h" }));
    host.start();
    let first = host.wait_for("v1 is live", "web", is_live);
    let first = first["running"]["source"].as_str().unwrap().to_owned();
    let second = fleet.release("web", "text v2\n");
    let until = waits(&host, "COOLDOWN", &first);
    host.kill();
    host.start();
    assert_eq!(waits(&host, "COOLDOWN", &first), until);
    for pid in host.processes_named("service") {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    wait::until("v1 serves again", Duration::from_secs(30), || {
        (http::get(port, "/") == Some((200, "v1".to_owned()))).then_some(())
    });
    host.agent(&["retry", "web"]).ok();
    host.wait_for("v2 is live", "web", runs(&second));
}

#[test]
fn a_disk_below_its_floor_waits_before_anything_is_fetched() {
    let (_fleet, mut host) = limited(&[web()], json!({ "diskFloor": "1000000GiB" }));
    host.start();
    let web = host.wait_for("web waits", "web", |web| {
        hold_code(web) == Some("DISK_FULL") && web["held"]["until"].is_string()
    });
    assert_eq!(web["held"]["kind"], "postponed");
    assert_eq!(web["deployment"], Value::Null);
    let sources = host.state().join("sources");
    let fetched = std::fs::read_dir(sources).map_or(0, Iterator::count);
    assert_eq!(fetched, 0, "nothing was fetched");
    host.kill();
    host.configure("limits", json!({}));
    host.start();
    host.wait_for("the agent is back", "web", |web| !web.is_null());
    host.agent(&["retry", "web"]).ok();
    host.wait_for("web is live", "web", is_live);
}

#[test]
fn a_build_that_waits_for_another_one_says_so() {
    let slow = |name| Service {
        build: r#"[ { run: [ sleep, "4" ] } ]"#,
        ..Service::web(name)
    };
    let services = [slow("api"), slow("web")];
    let (_fleet, mut host) = limited(&services, json!({}));
    host.configure("builds", json!(1));
    host.start();
    let (name, said) = wait::until("one waits", Duration::from_secs(60), || {
        ["api", "web"].into_iter().find_map(|name| {
            let waits_for = &host.service(name)["deployment"]["waitsFor"];
            Some((name, waits_for.as_str()?.to_owned()))
        })
    });
    assert_eq!(said, "another build to end (builds: 1 in agent.yaml)");
    let why = host.agent(&["why", name]).stdout;
    assert!(why.contains("waits for another build to end"), "{why}");
    for name in ["api", "web"] {
        let live = host.wait_for("both are live", name, is_live);
        assert_eq!(live["deployment"], Value::Null);
    }
}
