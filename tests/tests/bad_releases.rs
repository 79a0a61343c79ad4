//! Releases that cannot work: each fails or rolls back with its code and is held, and what ran before still runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::{http, wait};

/// One service at v1, live on a host whose agent runs.
fn running(service: &Service) -> (Fleet, Host) {
    let fleet = Fleet::new("hosts: any\n", std::slice::from_ref(service));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", service.name, is_live);
    (fleet, host)
}

/// Waits until the newest release of `web` is held with `code`; v1 answers then, and after the agent was killed and came back.
#[track_caller]
fn held_and_v1_runs(host: &mut Host, service: &Service, code: &str) {
    let port = service.port.unwrap();
    host.wait_for(code, service.name, |web| hold_code(web) == Some(code));
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    let releases = std::fs::read_dir(host.services().join(service.name).join("releases")).unwrap();
    let leftovers: Vec<_> = releases
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".tmp"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    let why = host.agent(&["why", service.name]).all();
    for part in [code, "remedy:"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    earn_here(code);
    host.kill();
    host.start();
    host.wait_for("the hold survives a restart", service.name, |web| {
        hold_code(web) == Some(code)
    });
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
}

#[test]
fn a_build_that_fails_is_held() {
    let web = Service {
        build: "[ { run: [ grep, text, behaviour ] } ]",
        ..Service::web("web")
    };
    let (fleet, mut host) = running(&web);
    fleet.release("web", "never-ready\n");
    held_and_v1_runs(&mut host, &web, "BUILD_FAILED");
    host.agent(&["logs", "web", "--build"]).ok();
}

#[test]
fn a_build_that_hangs_is_ended_with_its_children() {
    let step =
        "[ { run: [ sh, -c, \"grep -q text behaviour || { sleep 4242 & sleep 4242; }\" ] } ]";
    let mut web = Service {
        build: step,
        ..Service::web("web")
    };
    web.timeout = "2s";
    let (fleet, mut host) = running(&web);
    fleet.release("web", "never-ready\n");
    held_and_v1_runs(&mut host, &web, "BUILD_TIMEOUT");
    wait::until("no sleeper is left", Duration::from_secs(5), || {
        (!host.processes().iter().any(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .unwrap_or_default()
                .contains("4242")
        }))
        .then_some(())
    });
}

#[test]
fn a_build_that_fills_its_log_keeps_only_a_bounded_part() {
    let step = "[ { run: [ sh, -c, \"grep -q text behaviour || { base64 -w 1000 /dev/zero | head -c 200000000; exit 1; }\" ] } ]";
    let web = Service {
        build: step,
        ..Service::web("web")
    };
    let (fleet, mut host) = running(&web);
    fleet.release("web", "never-ready\n");
    held_and_v1_runs(&mut host, &web, "BUILD_FAILED");
    assert!(
        host.size_of_services() < 64 << 20,
        "{} bytes",
        host.size_of_services()
    );
}

#[test]
fn tests_that_fail_are_held() {
    let web = Service {
        test: "[ { run: [ grep, -q, text, behaviour ] } ]",
        ..Service::web("web")
    };
    let (fleet, mut host) = running(&web);
    fleet.release("web", "never-ready\n");
    held_and_v1_runs(&mut host, &web, "TEST_FAILED");
    host.agent(&["logs", "web", "--tests"]).ok();
}

#[test]
fn a_service_that_never_gets_ready_is_rolled_back() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    fleet.release("web", "text v2\nnever-ready\n");
    held_and_v1_runs(&mut host, &web, "NOT_READY");
    let why = host.agent(&["why", "web"]).ok().stdout;
    for part in ["not ready as told", "started: v2"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(host.agent(&["status"]).code, 1);
    // The hold is that release's alone.
    let commit = fleet.release("web", "text v3\n");
    let service = host.wait_for("v3 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == commit.as_str()
    });
    assert_eq!(service["held"], serde_json::Value::Null);
}

#[test]
fn a_service_that_exits_at_once_is_rolled_back() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    fleet.release("web", "exit-now\n");
    held_and_v1_runs(&mut host, &web, "PROCESS_EXITED");
}

#[test]
fn a_service_that_dies_during_bake_is_rolled_back() {
    let web = Service {
        strategy: "{ blueGreen: { bake: 8s } }",
        ..Service::web("web")
    };
    let (fleet, mut host) = running(&web);
    fleet.release("web", "text v2\nexit-after 3000\n");
    held_and_v1_runs(&mut host, &web, "PROCESS_EXITED");
}

#[test]
fn a_service_that_grows_ill_during_bake_is_rolled_back() {
    let web = Service {
        strategy: "{ blueGreen: { bake: 8s } }",
        ..Service::web("web")
    };
    let (fleet, mut host) = running(&web);
    fleet.release("web", "text v2\nunhealthy-after 3000\n");
    held_and_v1_runs(&mut host, &web, "UNHEALTHY");
}

#[test]
fn a_service_that_another_process_answers_for_is_rolled_back() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    let before = slot_ports(&host);
    fleet.release("web", "text v2\ndeaf\n");
    // The new process leaves its port alone, and somebody else takes it.
    let within = Duration::from_secs(30);
    let port = wait::until("the deaf process has a port", within, || {
        slot_ports(&host).difference(&before).next().copied()
    });
    let thief = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for mut stream in thief.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    held_and_v1_runs(&mut host, &web, "IDENTITY_MISMATCH");
}

/// The ports that the host's service processes were given.
fn slot_ports(host: &Host) -> BTreeSet<u16> {
    let port = |pid: &rustix::process::Pid| {
        let environ = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
        let mut variables = environ.split(|byte| *byte == 0);
        let port = variables.find_map(|variable| variable.strip_prefix(b"PORT="))?;
        std::str::from_utf8(port).ok()?.parse().ok()
    };
    host.processes_named("service")
        .iter()
        .filter_map(port)
        .collect()
}

#[test]
fn a_release_for_which_no_port_is_left_is_held_off() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    // Every port that the agent could hand out next is somebody else's.
    let taken: Vec<_> = host
        .ports()
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .collect();
    assert!(!taken.is_empty());
    fleet.release("web", "text v2\n");
    held_and_v1_runs(&mut host, &web, "PORTS_EXHAUSTED");
}

#[test]
fn a_listen_address_that_is_taken_puts_the_deployment_off_and_touches_nothing() {
    let web = Service::web("web");
    let (fleet, host) = running(&web);
    let mut other = Service::web("other");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    other.port = Some(taken.local_addr().unwrap().port());
    fleet.add(&other);
    fleet.commit("Add a service whose port is taken").ok();
    fleet.push().ok();
    host.wait_for("LISTEN_IN_USE", "other", |other| {
        hold_code(other) == Some("LISTEN_IN_USE") && other["held"]["kind"] == "postponed"
    });
    earn_here("LISTEN_IN_USE");
    assert_eq!(
        http::get(web.port.unwrap(), "/"),
        Some((200, "v1".to_owned()))
    );
    drop(taken);
    host.agent(&["retry", "other"]).ok();
    host.wait_for("other is live", "other", is_live);
}

#[test]
fn a_source_commit_that_is_missing_or_not_on_its_branch_is_held() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    fleet.pin("web", &"0123456789".repeat(4));
    held_and_v1_runs(&mut host, &web, "SOURCE_NOT_ON_BRANCH");
    // What a forge serves from a fork: the object is there, the branch does not lead to it.
    let fork = fleet.source_aside("web", "text fork\n");
    fleet.pin("web", &fork);
    held_and_v1_runs(&mut host, &web, "SOURCE_NOT_ON_BRANCH");
}

#[test]
fn a_service_that_floods_its_log_does_not_fill_the_disk() {
    let web = Service::web("web");
    let (fleet, host) = running(&web);
    fleet.release("web", "text v2\nflood\n");
    host.wait_for("v2 is live", "web", is_live);
    wait::until("v2 answers", Duration::from_secs(20), || {
        (http::get(web.port.unwrap(), "/")? == (200, "v2".to_owned())).then_some(())
    });
    assert!(
        host.size_of_services() < 128 << 20,
        "{} bytes",
        host.size_of_services()
    );
}

#[test]
fn a_disk_that_fills_up_while_building_fails_that_release_only() {
    let step = "[ { run: [ sh, -c, \"grep -q text behaviour || head -c 400000000 /dev/zero > large\" ] } ]";
    let web = Service {
        build: step,
        ..Service::web("web")
    };
    let fleet = Fleet::new("hosts: any\n", std::slice::from_ref(&web));
    let mut host = fleet.host_on_small_disk("one", "300m");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    fleet.release("web", "never-ready\n");
    held_and_v1_runs(&mut host, &web, "DISK_FULL");
}

#[test]
fn tests_that_hang_are_ended() {
    let web = Service {
        test: "[ { run: [ sh, -c, \"grep -q text behaviour || sleep 4243\" ] } ]",
        timeout: "2s",
        ..Service::web("web")
    };
    let (fleet, mut host) = running(&web);
    fleet.release("web", "never-ready\n");
    held_and_v1_runs(&mut host, &web, "TEST_TIMEOUT");
}

#[test]
fn a_build_that_does_not_make_its_output_is_held() {
    let web = Service {
        build: "[ { run: [ sh, -c, \"grep -q text behaviour || rm behaviour\" ] } ]",
        ..Service::web("web")
    };
    let (fleet, mut host) = running(&web);
    fleet.release("web", "never-ready\n");
    held_and_v1_runs(&mut host, &web, "OUTPUT_MISSING");
}

#[test]
fn a_source_with_a_link_out_of_itself_is_held() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    let link = fleet.path("sources/web/link");
    std::os::unix::fs::symlink("../../../../etc/passwd", link).unwrap();
    fleet.release("web", "text v2\n");
    held_and_v1_runs(&mut host, &web, "SOURCE_REFUSED");
}

/// Changes the base of `web` and pushes it.
fn change_base(fleet: &Fleet, edit: impl Fn(&str) -> String) {
    let path = "services/web/service.yaml";
    let base = std::fs::read_to_string(fleet.path("state").join(path)).unwrap();
    fleet.write(path, &edit(&base));
    fleet.commit("Change web").ok();
    fleet.push().ok();
}

#[test]
fn a_command_that_is_not_there_fails_the_deployment() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    let program = web.program.display().to_string();
    change_base(&fleet, |base| {
        base.replace(&program, "/nonexistent/service")
    });
    held_and_v1_runs(&mut host, &web, "START_FAILED");
}

#[test]
fn limits_that_must_be_enforced_and_cannot_be_fail_the_deployment() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    let limited = "run: { limits: { memory: 64MiB, enforce: required }, command";
    change_base(&fleet, |base| base.replace("run: { command", limited));
    held_and_v1_runs(&mut host, &web, "LIMIT_UNENFORCEABLE");
}

#[test]
fn an_address_that_the_host_does_not_have_puts_the_deployment_off() {
    let web = Service::web("web");
    let (fleet, mut host) = running(&web);
    let address = format!("127.0.0.1:{}", web.port.unwrap());
    // Of the block for documentation: nobody has it.
    change_base(&fleet, |base| base.replace(&address, "192.0.2.1:8080"));
    held_and_v1_runs(&mut host, &web, "LISTEN_REFUSED");
    let mut other = Service::web("other");
    fleet.add(&other);
    let base = std::fs::read_to_string(fleet.path("state/services/other/service.yaml")).unwrap();
    let address = format!("127.0.0.1:{}", other.port.take().unwrap());
    let elsewhere = base.replace(&address, "192.0.2.1:8081");
    fleet.write("services/other/service.yaml", &elsewhere);
    fleet.commit("Add a service").ok();
    fleet.push().ok();
    host.wait_for("the first release of another waits too", "other", |other| {
        hold_code(other) == Some("LISTEN_REFUSED") && other["held"]["kind"] == "postponed"
    });
}

#[test]
fn a_source_that_is_out_of_reach_is_tried_again() {
    let web = Service::web("web");
    let (fleet, host) = running(&web);
    let commit = fleet.source("web", "text v2\n");
    let (source, away) = (fleet.path("sources/web"), fleet.path("sources/away"));
    std::fs::rename(&source, &away).unwrap();
    fleet.pin("web", &commit);
    host.wait_for("v2 is put off", "web", |web| {
        web["held"]["kind"] == "postponed" && hold_code(web) == Some("SOURCE_UNAVAILABLE")
    });
    earn_here("SOURCE_UNAVAILABLE");
    assert_eq!(
        http::get(web.port.unwrap(), "/"),
        Some((200, "v1".to_owned()))
    );
    std::fs::rename(&away, &source).unwrap();
    host.agent(&["retry", "web"]).ok();
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == commit.as_str()
    });
}
