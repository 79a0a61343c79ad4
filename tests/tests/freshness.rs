//! Freshness end to end: while policy is not heard a host keeps up what runs and starts nothing new, unless an operator
//! breaks the glass; when policy is back, nobody needs to do anything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::attack::range::Range;
use tests::earned::earn_here;
use tests::host::Host;
use tests::{http, wait};

const SOON: Duration = Duration::from_secs(30);

/// How long a word of policy lasts here.
const FRESH: Duration = Duration::from_secs(6);

/// A range whose trust lets a word of policy last for seconds only.
fn range() -> Range {
    let mut range = Range::new();
    range.trust = range.trust.next();
    range.trust.max_freshness = format!("{}s", FRESH.as_secs());
    let clone = range.clone_of_author();
    clone.publish_trust(&range.trust, &["root", "root2"]);
    range
        .fleet
        .in_state(&["push", "-q", "origin", "trust"])
        .ok();
    policy_is_back(&range);
    range
}

/// Policy runs once, which renews its word.
fn policy_is_back(range: &Range) {
    let args = ["admit", "state.git", "--key", "keys/policy"];
    range.fleet.policy(&args).ok();
}

/// Waits until what policy said last has run out.
fn silence() {
    let begun = Instant::now();
    wait::until("policy's last word has run out", FRESH * 3, || {
        (begun.elapsed() > FRESH + Duration::from_secs(1)).then_some(())
    });
}

#[track_caller]
fn status(host: &Host, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, SOON, || {
        let status = host.status();
        condition(&status).then_some(status)
    })
}

fn is_stale(status: &Value) -> bool {
    status["pass"]["refused"]["code"] == "STALE"
}

/// Has a release admitted while the host is down, and the host find it when it is stale.
fn found_stale(range: &mut Range) -> String {
    range.host.kill();
    let answer = range.release();
    silence();
    range.host.start();
    let sequence = range.honest_sequence();
    status(
        &range.host,
        "the release is verified, and stale",
        |status| is_stale(status) && status["pass"]["sequence"] == sequence,
    );
    answer
}

#[test]
fn a_host_that_does_not_hear_policy_keeps_up_what_runs_and_starts_nothing_new() {
    let mut range = range();
    let port = range.web.port.unwrap();
    let answer = found_stale(&mut range);
    earn_here("STALE");
    let text = range.host.agent(&["status"]);
    assert_eq!(text.code, 1, "{}", text.all());
    assert!(text.stdout.contains("STALE"), "{}", text.stdout);
    for pid in range.host.processes_named("service") {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    range.wait_for_answer("v1");
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    assert_eq!(range.host.service("web")["deployment"], Value::Null);
    // Policy is back, and nobody does anything here.
    policy_is_back(&range);
    range.wait_for_answer(&answer);
}

#[test]
fn a_broken_glass_starts_one_stale_admission_until_policy_is_heard_again() {
    let mut range = range();
    let apply = [
        "apply",
        "--stale",
        "--reason",
        "the fix \u{1b}[31mcannot wait",
    ];
    let answer = found_stale(&mut range);
    let usage = range.host.agent(&["apply", "--stale"]);
    assert_eq!(usage.code, 2, "a reason is required: {}", usage.all());
    let said = range.host.agent(&apply).ok().stdout;
    assert!(said.contains("may start on this host"), "{said}");
    range.wait_for_answer(&answer);
    let shown = range.host.status();
    assert_eq!(shown["breakGlass"]["sequence"], range.honest_sequence());
    assert!(is_stale(&shown), "{shown:#}");
    assert_eq!(range.host.agent(&["status"]).code, 1, "it is not well");
    for command in [&["status"][..], &["why", "web"], &["history"]] {
        let text = range.host.agent(command).stdout;
        assert!(text.contains("cannot wait"), "{command:?}: {text}");
        assert!(!text.contains("\u{1b}[31m"), "{command:?}: {text}");
    }
    // A restart changes nothing.
    range.host.kill();
    range.host.start();
    status(&range.host, "it is still broken", |status| {
        is_stale(status) && status["breakGlass"]["reason"].is_string()
    });
    policy_is_back(&range);
    status(&range.host, "policy is heard", |status| {
        status["breakGlass"].is_null() && status["pass"]["refused"].is_null()
    });
    range.host.agent(&apply).refused("NOT_STALE");
    earn_here("NOT_STALE");
}

#[test]
fn a_glass_broken_without_an_agent_is_done_when_the_command_ends_and_can_be_lifted() {
    let mut range = range();
    let port = range.web.port.unwrap();
    let answer = found_stale(&mut range);
    range.host.kill();
    range
        .host
        .agent(&["apply", "--stale", "--reason", "a fix"])
        .ok();
    assert_eq!(http::get(port, "/"), Some((200, answer)));
    let said = range.host.agent(&["apply", "--lift"]).ok().stdout;
    assert!(said.contains("nothing stale may start any more"), "{said}");
    range.host.start();
    status(&range.host, "it is mended", |status| {
        is_stale(status) && status["breakGlass"].is_null()
    });
}

#[test]
fn a_glass_is_not_broken_for_what_was_never_verified() {
    let range = Range::new();
    let url = format!("file://{}", range.fleet.path("nowhere.git").display());
    let root = range.fleet.path("hosts/two");
    let host = Host::enroll(root, "two", &url, &range.fleet.domain(), &[]);
    host.agent(&["apply", "--stale", "--reason", "why not"])
        .refused("NOTHING_VERIFIED");
    earn_here("NOTHING_VERIFIED");
}

#[test]
fn a_log_that_is_held_back_is_noticed() {
    let mut range = Range::new();
    range.host.kill();
    let answer = range.release();
    let forge = range.forge();
    // A mirror shows the freshness that it got, and not the admission that it is about.
    forge.point("admitted", &forge.parent(&forge.tip("admitted")));
    range.serve(&forge.path);
    range.host.start();
    range.wait_for_refusal(state::Code::LogWithheld);
    earn_here("LOG_WITHHELD");
    range.wait_for_answer("v1");
    range.serve_honestly();
    range.wait_for_answer(&answer);
}
