//! Hosts that are not set up as they should be: each is refused with its code, and what runs is left alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::{Value, json};
use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::{http, wait};

const RULES: &str = "hosts: any\n";

/// One service at v1, live on a host whose agent runs.
fn running() -> (Fleet, Host, Service) {
    let web = Service::web("web");
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    (fleet, host, web)
}

#[track_caller]
fn still_serves(web: &Service) {
    assert_eq!(
        http::get(web.port.unwrap(), "/"),
        Some((200, "v1".to_owned()))
    );
}

/// Enrols another host at `root`, and says what came of it.
fn enroll(
    fleet: &Fleet,
    root: PathBuf,
    url: &str,
    extra: &[&str],
) -> (Host, tests::program::Outcome) {
    Host::try_enroll(root, "two", url, &fleet.domain(), extra)
}

fn url(fleet: &Fleet) -> String {
    format!("file://{}", fleet.path("state.git").display())
}

#[test]
fn a_host_is_enrolled_once_and_where_its_sockets_fit() {
    let (fleet, host, web) = running();
    let again = enroll(&fleet, host.root().to_owned(), &url(&fleet), &[]);
    again.1.refused("ALREADY_ENROLLED");
    let long = fleet.path("x".repeat(100));
    enroll(&fleet, long, &url(&fleet), &[])
        .1
        .refused("SOCKET_PATH_TOO_LONG");
    still_serves(&web);
}

#[test]
fn settings_that_are_wrong_or_not_known_are_refused() {
    let (fleet, mut host, web) = running();
    // Nothing is ever fetched in plain text.
    let plain = "http://git.example.org/state.git";
    enroll(&fleet, fleet.path("hosts/two"), plain, &[])
        .1
        .refused("AGENT_CONFIG_INVALID");
    host.kill();
    let settings = std::fs::read(host.config()).unwrap();
    for (key, value, code) in [
        ("pool", "3s", "AGENT_CONFIG_INVALID"),
        ("runner", "systemd", "UNSUPPORTED"),
        ("user", "writ-app", "AGENT_CONFIG_INVALID"),
        ("users", "60000-70000", "AGENT_CONFIG_INVALID"),
    ] {
        std::fs::write(host.config(), &settings).unwrap();
        host.configure(key, json!(value));
        host.agent(&["run"]).refused(code);
        host.agent(&["once"]).refused(code);
    }
    std::fs::write(host.config(), &settings).unwrap();
    still_serves(&web);
    host.start();
    fleet.release("web", "text v2\n");
    wait::until("v2 answers", Duration::from_secs(60), || {
        (http::get(web.port.unwrap(), "/")? == (200, "v2".to_owned())).then_some(())
    });
}

/// Waits until the pass of `host` shows `code`, or its services do.
#[track_caller]
fn shows(host: &Host, code: &str) {
    wait::until(code, Duration::from_secs(30), || {
        host.status().to_string().contains(code).then_some(())
    });
    assert_eq!(host.agent(&["status"]).code, 1);
    earn_here(code);
}

#[test]
fn a_host_of_no_environment_or_that_is_not_listed_runs_nothing() {
    let (fleet, one, web) = running();
    let extra = ["--environment", "qa"];
    let (mut two, enrolled) = enroll(&fleet, fleet.path("hosts/two"), &url(&fleet), &extra);
    enrolled.ok();
    two.start();
    shows(&two, "ENVIRONMENT_UNKNOWN");
    drop(two);
    let rules = "hosts: [ { name: one } ]\n";
    fleet.write("environments/dev/environment.yaml", rules);
    fleet.commit("List the hosts").ok();
    fleet.push().ok();
    let mut three = fleet.host("three");
    three.start();
    shows(&three, "HOST_UNKNOWN");
    assert!(three.processes_named("service").is_empty());
    one.wait_for("the listed one goes on", "web", is_live);
    still_serves(&web);
}

#[test]
fn a_host_whose_sandbox_does_not_start_builds_nothing() {
    let mut web = Service::web("web");
    web.build = "[ { run: [ \"true\" ] } ]";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    let sandbox = json!({ "kind": "bubblewrap", "tools": [ "/nonexistent" ] });
    host.configure("sandbox", sandbox);
    host.start();
    host.wait_for("web is not built", "web", |web| {
        hold_code(web) == Some("SANDBOX_MISSING")
    });
    earn_here("SANDBOX_MISSING");
}

#[test]
fn a_host_without_the_proxy_that_it_was_promised_starts_nothing_that_needs_it() {
    let web = Service::web("web");
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.configure("proxy", json!("external"));
    host.start();
    let code = "PROXY_UNAVAILABLE";
    wait::until(code, Duration::from_secs(30), || {
        host.agent(&["history"]).stdout.contains(code).then_some(())
    });
    earn_here(code);
    host.kill();
    let once = host.agent(&["once"]).refused(code);
    assert_eq!(once.code, 1, "{once:?}");
    assert_eq!(host.processes_named("service").len(), 0);
}

#[test]
fn once_without_the_proxy_says_so_and_leaves_alone_what_runs() {
    let web = Service::web("web");
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    host.kill();
    host.configure("proxy", json!("external"));
    let running = host.processes_named("service");
    let is_proxy = |pid: &Pid| {
        let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        let line = std::fs::read_to_string(path).unwrap_or_default();
        line.split('\0').any(|word| word == "proxy")
    };
    let mut proxy = host.processes_named("agent");
    proxy.retain(is_proxy);
    for pid in proxy {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    wait::until("nobody listens", Duration::from_secs(10), || {
        http::get(web.port.unwrap(), "/").is_none().then_some(())
    });

    let once = host.agent(&["once"]).refused("PROXY_UNAVAILABLE");
    assert!(once.stdout.contains("clients get no answer"), "{once:?}");
    fleet.release("web", "text v2\n");
    let once = host.agent(&["once"]).refused("PROXY_UNAVAILABLE");
    assert_eq!(once.code, 1, "{once:?}");
    assert_eq!(host.processes_named("service"), running, "v1, untouched");

    host.configure("proxy", json!("managed"));
    host.agent(&["retry", "web"]).ok();
    host.agent(&["once"]).ok();
    let answer = http::get(web.port.unwrap(), "/");
    assert_eq!(answer, Some((200, "v2".to_owned())));
}

#[test]
fn settings_that_are_not_in_force_are_shown_with_what_to_do() {
    let (_fleet, mut host, _) = running();
    let before = std::fs::read_to_string(host.config()).unwrap();
    let says = |part: &str| {
        wait::until(part, Duration::from_secs(10), || {
            let status = host.agent(&["status"]);
            status.stdout.contains(part).then_some(status)
        })
    };
    host.configure("poll", json!("300ms"));
    let status = says("is not in force; restart the agent");
    assert_eq!(status.code, 0, "{status:?}");
    std::fs::write(host.config(), format!("{before}pool: 3s\n")).unwrap();
    let status = says("would be refused; mend it before the agent is restarted");
    assert!(status.stdout.contains("AGENT_CONFIG_INVALID"), "{status:?}");
    assert!(status.stdout.contains("pool"), "{status:?}");
    assert_eq!(status.code, 1, "{status:?}");
    std::fs::write(host.config(), &before).unwrap();
    wait::until("all is as it was", Duration::from_secs(10), || {
        host.status()["settings"].is_null().then_some(())
    });
    host.configure("poll", json!("300ms"));
    host.kill();
    host.start();
    host.wait_for("web is live", "web", is_live);
    assert_eq!(host.status()["settings"], Value::Null);
}

/// The routing table's file of `web`.
fn table(host: &Host) -> PathBuf {
    let mut folders = vec![host.root().join("var/lib/writ")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.ends_with("routes/web.json") {
                return path;
            }
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    panic!("the routing table has a file");
}

/// Has the proxy of `host` read the table of `web` again; says what it answers.
fn apply(host: &Host) -> String {
    let mut proxy = UnixStream::connect(host.root().join("run/writ/proxy.sock")).unwrap();
    let question = b"{\"request\":\"apply\",\"service\":\"web\"}\n";
    proxy.write_all(question).unwrap();
    let mut answer = String::new();
    proxy.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_routing_table_that_is_damaged_or_an_earlier_one_changes_nothing() {
    let (fleet, mut host, web) = running();
    host.kill();
    let table = table(&host);
    let text = std::fs::read_to_string(&table).unwrap();
    let mut earlier: Value = serde_json::from_str(&text).unwrap();
    earlier["generation"] = (earlier["generation"].as_u64().unwrap() - 1).into();
    for (text, code) in [
        ("{", "ROUTES_INVALID"),
        (&earlier.to_string(), "GENERATION_STALE"),
    ] {
        std::fs::write(&table, text).unwrap();
        let answer = apply(&host);
        assert!(answer.contains(code), "{answer}");
        earn_here(code);
        still_serves(&web);
    }
    // The agent writes it again.
    host.start();
    fleet.release("web", "text v2\n");
    wait::until("v2 answers", Duration::from_secs(60), || {
        (http::get(web.port.unwrap(), "/")? == (200, "v2".to_owned())).then_some(())
    });
}

#[test]
fn a_process_that_cannot_be_ended_is_named() {
    let (fleet, mut host, _) = running();
    host.kill();
    // The record of the slot says that a thread of the kernel supervises it: no signal ends that one.
    let state = host.services().join("web/slots/blue/state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    let (pid, started) = kernel_thread();
    record["supervisor"]["pid"] = pid.into();
    record["supervisor"]["started"] = started.into();
    std::fs::write(&state, record.to_string()).unwrap();
    host.start();
    let pin = std::fs::read_to_string(fleet.path("state/environments/dev/web.yaml")).unwrap();
    fleet.write(
        "environments/dev/web.yaml",
        &format!("{pin}state: stopped\n"),
    );
    fleet.commit("Stop web").ok();
    fleet.push().ok();
    wait::until("STOP_FAILED", Duration::from_secs(60), || {
        (host.status().to_string() + &host.log())
            .contains("STOP_FAILED")
            .then_some(())
    });
    earn_here("STOP_FAILED");
}

/// A thread of the kernel: it has no program.
fn kernel_thread() -> (u32, u64) {
    let thread = (2..1000).find_map(|pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let program = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let fields: Vec<_> = stat.rsplit(") ").next()?.split(' ').collect();
        // Field 22 of stat, counted from 1; the split leaves out two.
        (program.is_empty() && fields[0] != "Z").then(|| (pid, fields[19].parse().unwrap()))
    });
    thread.expect("a thread of the kernel: this test needs a machine, not a container")
}
