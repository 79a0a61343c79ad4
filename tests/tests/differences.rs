//! Settings and arguments that nothing else is about: each changes alone, and what follows from it is seen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use serde_json::Value;
use tests::fleet::{Fleet, Service, free_port};
use tests::host::{Host, is_live};
use tests::{http, wait};

const RULES: &str = "hosts: any\n";

/// Lays `text` over the pin of `service`, pushes, and waits until that release is live.
fn overlay(fleet: &Fleet, host: &Host, service: &str, text: &str) {
    let path = format!("environments/dev/{service}.yaml");
    let now = std::fs::read_to_string(fleet.path("state").join(&path)).unwrap();
    let pin = now.lines().next().unwrap();
    let before = host.service(service)["running"]["release"].clone();
    fleet.write(&path, &format!("{pin}\n{text}\n"));
    fleet.commit("Change one field").ok();
    fleet.push().ok();
    host.wait_for(text, service, |one| {
        is_live(one) && one["running"]["release"] != before
    });
}

fn says(host: &Host, service: &str, line: &str) {
    wait::until(line, Duration::from_secs(20), || {
        let log = host.agent(&["logs", service]).stdout;
        log.lines().any(|said| said == line).then_some(())
    });
}

#[test]
fn what_a_slot_gets_is_what_its_release_says() {
    let mut worker = Service::worker("worker");
    worker.strategy = "{ recreate: { bake: 100ms } }";
    let mut site = Service::web("site");
    site.strategy = "{ blueGreen: { bake: 100ms } }";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&site));
    let run = |more: &str| {
        let script =
            "echo GREETING=$GREETING; cat $CREDENTIALS_DIRECTORY/* 2>/dev/null; exec sleep 600";
        format!("run: {{ command: [ sh, -c, \"{script}\" ]{more} }}")
    };
    fleet.add(&worker);
    let path = "environments/dev/worker.yaml";
    let pin = std::fs::read_to_string(fleet.path("state").join(path)).unwrap();
    fleet.write(path, &format!("{pin}{}\n", run("")));
    fleet.commit("Add worker").ok();
    fleet.push().ok();
    let mut host = fleet.host("one");
    let secrets = host.root().join("etc/writ/credentials/worker");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("db"), "the secret\n").unwrap();
    host.start();
    for service in ["worker", "site"] {
        host.wait_for("v1 is live", service, is_live);
    }
    says(&host, "worker", "GREETING=");
    assert!(!host.agent(&["logs", "worker"]).stdout.contains("secret"));
    overlay(
        &fleet,
        &host,
        "worker",
        &run(", environment: { GREETING: hello }"),
    );
    says(&host, "worker", "GREETING=hello");
    overlay(&fleet, &host, "worker", &run(", credentials: [ db ]"));
    says(&host, "worker", "the secret");
    let deaf = "run: { command: [ sh, -c, \"trap '' TERM; echo deaf; while :; do sleep 0.1; done\" ], stop: { within: 300ms } }";
    overlay(&fleet, &host, "worker", deaf);
    says(&host, "worker", "deaf");
    overlay(&fleet, &host, "worker", &run(""));
    let history = host.agent(&["history", "worker"]).ok().stdout;
    assert!(history.contains("it had 300ms to end"), "{history}");

    let slot = |place: &str| -> Value {
        let record = std::fs::read(host.services().join("site/record.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let slots = record["slots"].as_object().unwrap();
        slots.values().next().unwrap()["address"][place].clone()
    };
    assert!(slot("tcp").is_string());
    overlay(&fleet, &host, "site", "run: { listen: socket }");
    assert!(slot("unix").is_string());
    let port = site.port.unwrap();
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    let public = "build: { steps: [ { run: [ sh, -c, \"mkdir -p public && echo hello > public/page\" ] } ], output: [ public ] }\n\
                  run: { static: public }\nhealth: null";
    overlay(&fleet, &host, "site", public);
    assert_eq!(http::get(port, "/page"), Some((200, "hello\n".to_owned())));
    let other = free_port();
    overlay(
        &fleet,
        &host,
        "site",
        &format!("traffic: {{ listen: \"127.0.0.1:{other}\" }}"),
    );
    assert_eq!(http::get(other, "/"), Some((200, "v1".to_owned())));
}

#[test]
fn what_enroll_is_told_stands_in_the_settings() {
    let fleet = Fleet::new(RULES, &[]);
    let extra = [
        (
            "--repository",
            "https://mirror.example.org/state.git",
            "/remotes/1/url",
            "https://mirror.example.org/state.git",
        ),
        ("--poll", "7s", "/poll", "7s"),
        ("--sandbox", "none", "/sandbox/kind", "none"),
        ("--tools", "/opt/rust", "/sandbox/tools/0", "/opt/rust"),
        ("--label", "role=web", "/labels/role", "web"),
    ];
    for (at, (name, value, pointer, expected)) in extra.into_iter().enumerate() {
        let root = fleet.path(format!("hosts/{at}"));
        let url = "https://git.example.org/state.git";
        let host = Host::enroll(root, "one", url, &fleet.domain(), &[name, value]);
        let text = std::fs::read_to_string(host.config()).unwrap();
        let settings: Value = serde_yaml::from_str(&text).unwrap();
        let found = settings.pointer(pointer);
        assert_eq!(found, Some(&Value::from(expected)), "{name}\n{text}");
    }
}

#[test]
fn the_other_file_is_read_where_it_is_named() {
    let fleet = Fleet::new(RULES, &[]);
    let host = fleet.host("one");
    host.agent(&["once"]).ok();
    let other = fleet.path("hosts/other.yaml");
    std::fs::write(&other, "colour: red\n").unwrap();
    let said = host.agent(&["once", "--config", other.to_str().unwrap()]);
    said.refused("AGENT_CONFIG_INVALID");
}

#[test]
fn what_a_command_is_asked_for_is_what_it_shows() {
    let fleet = Fleet::new(RULES, &[Service::web("web"), Service::web("api")]);
    let mut host = fleet.host("one");
    host.start();
    for service in ["web", "api"] {
        host.wait_for("v1 is live", service, is_live);
    }
    let commit = fleet.release("web", "text v2\n");
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == commit.as_str()
    });
    let shown = |args: &[&str]| host.agent(args).ok().stdout;
    assert_eq!(
        shown(&["logs", "web", "--slot", "blue", "--lines", "1"])
            .lines()
            .count(),
        1
    );
    assert!(shown(&["logs", "web", "--slot", "blue"]).contains("started: v1"));
    assert!(shown(&["logs", "web", "--slot", "green"]).contains("started: v2"));
    let both = shown(&["plan"]);
    assert!(both.contains("web") && both.contains("api"), "{both}");
    let one = shown(&["plan", "api"]);
    assert!(one.contains("api") && !one.contains("web:"), "{one}");
    host.agent(&["plan", "nobody"]).refused("UNKNOWN_SERVICE");
    let all = shown(&["history"]);
    assert!(all.lines().count() > 5, "{all}");
    let newest = shown(&["history", "--limit", "1", "--json"]);
    assert_eq!(newest.lines().count(), 1, "{newest}");
    serde_json::from_str::<Value>(&newest).unwrap();
    let api = shown(&["history", "api", "--json"]);
    for line in api.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["service"], "api", "{line}");
    }
}
