//! What the code of a build cannot do to a host: each release is held with the limit that it passed or with the thing that
//! was refused, by name, and what ran before still runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::program::{self, binary};
use tests::{http, wait};

/// `web` at v1, live, on a host of its own; later releases run `step` in their build, under small limits.
fn running(step: &str) -> (Fleet, Host, u16) {
    let web = Service::web("web");
    let port = web.port.unwrap();
    let fleet = Fleet::new("hosts: any\n", &[web]);
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let path = "services/web/service.yaml";
    let base = std::fs::read_to_string(fleet.path("state").join(path)).unwrap();
    let limits = "{ memory: 256MiB, tasks: 32, disk: 64MiB, output: 16MiB, log: 64KiB }";
    let build = format!("build: {{ limits: {limits}, steps: [ {{ run: [ sh, -c, '{step}' ] }} ]");
    fleet.write(path, &base.replace("build: { steps: []", &build));
    fleet.commit("Build v2").ok();
    fleet.push().ok();
    (fleet, host, port)
}

/// Waits until the newest release is held with `code`, and `why` says `told`.
#[track_caller]
fn held(host: &Host, port: u16, code: &str, told: &str) {
    host.wait_for(code, "web", |web| hold_code(web) == Some(code));
    let why = host.agent(&["why", "web"]).all();
    for part in [code, told, "remedy:"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    earn_here(code);
}

#[test]
fn a_build_that_takes_too_much_is_held_with_the_limit_that_it_passed() {
    for (limit, step) in [
        ("disk", "head -c 200000000 /dev/zero >x; sleep 60"),
        ("disk", "head -c 200000000 /dev/zero >/tmp/x; sleep 60"),
        ("disk", "head -c 200000000 /dev/zero >$HOME/x; sleep 60"),
        ("memory", "head -c 400000000 /dev/zero | tail -c 400000000"),
        ("tasks", "while :; do sleep 60 & done"),
        ("output", "head -c 30000000 /dev/zero >behaviour"),
    ] {
        let (_fleet, host, port) = running(step);
        held(
            &host,
            port,
            "BUILD_LIMIT",
            &format!("build.limits.{limit} is"),
        );
        wait::until("nothing is left behind", Duration::from_secs(10), || {
            (host.size_of_services() < 8 << 20).then_some(())
        });
    }
}

#[test]
fn the_log_of_a_build_is_cut_where_its_service_says() {
    let (_fleet, host, port) = running("yes | head -c 1000000; exit 1");
    held(&host, port, "BUILD_FAILED", "exit code 1");
    let log = host.agent(&["logs", "web", "--build"]).ok().stdout;
    let cut = "[the log is cut here: build.limits.log is 64KiB]";
    assert!(
        log.trim_end().ends_with(cut) && log.len() < 70_000,
        "{}",
        log.len()
    );
}

#[test]
fn a_build_reaches_no_memory_of_the_host_but_its_own() {
    for place in ["/dev/x", "/dev/shm/x", "/x"] {
        let (_fleet, host, port) = running(&format!("head -c 2000000000 /dev/zero >{place}"));
        host.wait_for("v2 is held", "web", |web| hold_code(web).is_some());
        assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
        let log = host.agent(&["logs", "web", "--build"]).ok().stdout;
        let refused = ["Read-only file system", "File size limit exceeded"];
        assert!(
            refused.iter().any(|text| log.contains(text)),
            "{place}: {log}"
        );
    }
}

#[test]
fn a_sparse_output_is_deployed_as_sparse_as_it_is() {
    let sparse =
        "mkdir big; truncate -s 60M big/x; ln behaviour big/b; rm behaviour; ln -s big/b behaviour";
    let (_fleet, host, port) = running(sparse);
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"] != web["previous"] && web["held"].is_null()
    });
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    assert!(host.size_of_services() < 8 << 20);
}

#[test]
fn an_output_with_a_link_to_nothing_is_held() {
    let dangling = "mv behaviour b; mkdir behaviour; ln -s ../gone behaviour/link";
    let (_fleet, host, port) = running(dangling);
    held(
        &host,
        port,
        "OUTPUT_MISSING",
        "the link 'behaviour/link' leads to '../gone'",
    );
}

#[test]
fn a_source_that_is_not_what_it_seems_is_held() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    for (name, content, told) in [
        (&b"logo.png"[..], pointer, "'logo.png' is a Git LFS pointer"),
        (b"caf\xe9", "x", r"the name 'caf\xe9' is not UTF-8"),
    ] {
        let (fleet, host, port) = running("true");
        let path = fleet
            .path("sources/web")
            .join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(path, content).unwrap();
        fleet.release("web", "text v3\n");
        held(&host, port, "SOURCE_REFUSED", told);
    }
}

#[test]
fn a_limit_that_is_unknown_or_no_quantity_is_refused_before_it_is_admitted() {
    let (fleet, _host, _port) = running("true");
    let path = "services/web/service.yaml";
    let base = std::fs::read_to_string(fleet.path("state").join(path)).unwrap();
    for (limits, told) in [
        ("{ cpu: 100%,", "build.limits.cpu: unknown field `cpu`"),
        ("{ swap: 1GiB,", "build.limits.swap: unknown field `swap`"),
        ("{ tasks: 0, #", "build.limits.tasks: expected more than 0"),
    ] {
        fleet.write(
            path,
            &base.replace(
                "limits: { memory: 256MiB, tasks: 32,",
                &format!("limits: {}", limits.trim_end_matches(" #")),
            ),
        );
        let policy = &mut program::command(binary("policy"), &fleet.path(""));
        let check = program::run(policy.arg("check").current_dir(fleet.path("state")));
        assert_eq!(check.code, 1, "{limits}");
        assert!(check.all().contains(told), "{limits}: {}", check.all());
    }
}
