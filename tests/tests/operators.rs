//! What an operator decides on a host: rollback, hold, resume; with an agent and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use serde_json::Value;
use tests::fleet::{Fleet, Service};
use tests::host::Host;
use tests::{http, wait};

const RULES: &str = "hosts: any\n";

fn runs(commit: &str) -> impl Fn(&Value) -> bool {
    move |service| {
        service["phase"] == "live"
            && service["health"] == "healthy"
            && service["running"]["source"] == commit
    }
}

/// A fleet whose service `web` runs its first release, with that one's source commit.
fn one_release() -> (Fleet, Host, u16, String) {
    let mut web = Service::web("web");
    web.strategy = "{ blueGreen: { bake: 300ms } }";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    let first = host.wait_for("v1 is live", "web", |web| web["phase"] == "live");
    let first = first["running"]["source"].as_str().unwrap().to_owned();
    (fleet, host, web.port.unwrap(), first)
}

/// A fleet whose service `web` had two good releases; the second one runs. With their source commits.
fn two_releases() -> (Fleet, Host, u16, [String; 2]) {
    let (fleet, host, port, first) = one_release();
    let second = fleet.release("web", "text v2\n");
    host.wait_for("v2 is live", "web", runs(&second));
    (fleet, host, port, [first, second])
}

#[test]
fn a_rollback_brings_the_last_good_release_back_until_another_is_admitted() {
    let (fleet, host, port, [first, second]) = two_releases();
    let said = host.agent(&["rollback", "web"]).ok().stdout;
    assert!(said.contains("until another is admitted"), "{said}");
    let service = host.wait_for("v1 is back", "web", runs(&first));
    assert_eq!(service["held"]["kind"], "manual");
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    assert_eq!(host.agent(&["status"]).code, 1);
    host.agent(&["resume", "web"]).ok();
    host.wait_for("v2 is back", "web", runs(&second));
    let release = service["running"]["release"].as_str().unwrap();
    host.agent(&["rollback", "web", "--to", &release[..6]]).ok();
    host.wait_for("v1 is back by its id", "web", runs(&first));
    let third = fleet.release("web", "text v3\n");
    let service = host.wait_for("v3 ends the rollback", "web", runs(&third));
    assert_eq!(service["held"], Value::Null);
}

#[test]
fn a_rollback_during_a_bake_waits_for_nothing() {
    let (fleet, host, port, first) = one_release();
    let second = fleet.source("web", "text v2\n");
    let overlay =
        format!("source: {{ commit: \"{second}\" }}\nstrategy: {{ blueGreen: {{ bake: 1h }} }}\n");
    fleet.write("environments/dev/web.yaml", &overlay);
    fleet.commit("Release web, and watch it for an hour").ok();
    fleet.push().ok();
    let bakes = |web: &Value| web["phase"] == "baking";
    host.wait_for("v2 bakes", "web", bakes);
    host.agent(&["rollback", "web"]).ok();
    let service = host.wait_for("v1 is back", "web", runs(&first));
    let served = http::get(port, "/");
    assert_eq!(served, Some((200, "v1".to_owned())));
    assert_eq!(service["held"]["kind"], "manual");
    // It was the operator's wish and not the release's fault.
    host.agent(&["resume", "web"]).ok();
    host.wait_for("v2 bakes again", "web", bakes);
}

/// Puts a release on trial, and asks for a slow page of it; `drain` is what requests in flight have.
fn slow_page_during_a_rollback(drain: &str) -> Option<(u16, String)> {
    let (fleet, host, port, first) = one_release();
    let second = fleet.source("web", "text v2\n");
    let overlay = format!(
        "source: {{ commit: \"{second}\" }}\nstrategy: {{ blueGreen: {{ bake: 1h }} }}\ntraffic: {{ drain: {drain} }}\n"
    );
    fleet.write("environments/dev/web.yaml", &overlay);
    fleet.commit("Release web, and watch it for an hour").ok();
    fleet.push().ok();
    host.wait_for("v2 bakes", "web", |web| web["phase"] == "baking");
    let page = std::thread::spawn(move || http::get(port, "/slow"));
    wait::until("the request is in flight", Duration::from_secs(10), || {
        let log = host.agent(&["logs", "web"]).stdout;
        log.contains("slow").then_some(())
    });
    host.agent(&["rollback", "web"]).ok();
    host.wait_for("v1 is back", "web", runs(&first));
    page.join().unwrap()
}

#[test]
fn a_rollback_during_a_bake_lets_the_requests_in_flight_finish() {
    let page = slow_page_during_a_rollback("10s");
    assert_eq!(page, Some((200, "v2".to_owned())));
    let page = slow_page_during_a_rollback("0s");
    assert_ne!(page, Some((200, "v2".to_owned())), "it had no time");
}

#[test]
fn a_rollback_without_an_agent_is_done_when_the_command_ends() {
    let (_fleet, mut host, port, [first, _]) = two_releases();
    host.kill();
    host.agent(&["rollback", "web"]).ok();
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    let once = host.agent(&["once"]);
    assert_eq!(once.code, 1, "a held release is not well: {}", once.stdout);
    assert_eq!(host.service("web")["running"]["source"], first.as_str());
}

#[test]
fn a_rollback_to_what_is_not_kept_is_refused() {
    let (_fleet, host, port, _) = two_releases();
    host.agent(&["rollback", "web", "--to", "ffffffffffff"])
        .refused("NO_TARGET");
    for command in ["rollback", "history"] {
        host.agent(&[command, "api"]).refused("UNKNOWN_SERVICE");
    }
    assert_eq!(http::get(port, "/"), Some((200, "v2".to_owned())));
}

#[test]
fn a_held_service_keeps_what_runs_until_it_is_resumed() {
    let (fleet, host, port, [_, second]) = two_releases();
    host.agent(&["hold", "web"]).ok();
    let third = fleet.release("web", "text v3\n");
    host.wait_for("v3 waits", "web", |web| {
        web["desired"] != web["running"]["release"]
            && web["held"]["kind"] == "manual"
            && web["held"]["code"] == "HELD"
    });
    tests::earned::earn_here("HELD");
    assert!(runs(&second)(&host.service("web")));
    host.agent(&["resume", "web"]).ok();
    host.wait_for("v3 is live", "web", runs(&third));
    assert_eq!(http::get(port, "/"), Some((200, "v3".to_owned())));
}
