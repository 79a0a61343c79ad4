//! Remotes and hosts in a bad way: intake stops and says why, and what ran before still runs and is kept up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::Duration;

use tests::fleet::{Fleet, Service};
use tests::host::{Host, is_live};
use tests::server::GitServer;
use tests::{http, program, wait};

fn running() -> (Fleet, Host, Service) {
    let web = Service::web("web");
    let fleet = Fleet::new("hosts: any\n", std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    (fleet, host, web)
}

/// Waits until intake is refused with one of `codes`; then the service answers, also after its process was killed.
#[track_caller]
fn refused_and_kept_up(host: &Host, web: &Service, codes: &[&str]) {
    let seen = wait::until("intake is refused", Duration::from_secs(30), || {
        let status = host.status();
        let code = status["pass"]["refused"]["code"].as_str()?;
        codes.iter().find(|expected| **expected == code)
    });
    let text = host.agent(&["status"]);
    assert_eq!(text.code, 1, "not well: {}", text.all());
    assert!(text.stdout.contains(seen), "{}", text.stdout);
    tests::earned::earn_here(seen);
    for pid in host.processes_named("service") {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    wait::until(
        "the killed service answers again",
        Duration::from_secs(20),
        || (http::get(web.port.unwrap(), "/")? == (200, "v1".to_owned())).then_some(()),
    );
}

fn git(fleet: &Fleet, args: &[&str]) -> program::Outcome {
    program::run(
        program::command("git", &fleet.path(""))
            .arg("-C")
            .arg(fleet.path("state.git"))
            .args(args),
    )
}

#[test]
fn a_repository_that_is_gone_stops_nothing_that_runs() {
    let (fleet, host, web) = running();
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    refused_and_kept_up(&host, &web, &["FETCH_FAILED"]);
    // It comes back, and so does intake.
    std::fs::rename(fleet.path("away.git"), fleet.path("state.git")).unwrap();
    fleet.release("web", "text v2\n");
    wait::until("v2 answers", Duration::from_secs(60), || {
        (http::get(web.port.unwrap(), "/")? == (200, "v2".to_owned())).then_some(())
    });
}

#[test]
fn a_repository_that_was_emptied_stops_nothing_that_runs() {
    let (fleet, host, web) = running();
    std::fs::remove_dir_all(fleet.path("state.git")).unwrap();
    program::run(
        program::command("git", &fleet.path(""))
            .args(["init", "-q", "--bare"])
            .arg(fleet.path("state.git")),
    )
    .ok();
    refused_and_kept_up(&host, &web, &["REF_MISSING"]);
}

#[test]
fn a_log_that_was_rolled_back_is_noticed() {
    let (fleet, host, web) = running();
    git(&fleet, &["update-ref", "refs/heads/admitted", "admitted~1"]).ok();
    refused_and_kept_up(&host, &web, &["LOG_ROLLBACK", "LOG_WITHHELD"]);
}

#[test]
fn a_log_that_was_rewritten_by_a_stranger_is_noticed() {
    let (fleet, host, web) = running();
    let tree = git(&fleet, &["rev-parse", "admitted^{tree}"]).ok().stdout;
    let identity = ["-c", "user.name=eve", "-c", "user.email=eve@example.org"];
    let mut args = identity.to_vec();
    args.extend([
        "commit-tree",
        "-p",
        "admitted",
        "-p",
        "main",
        "-m",
        "Mine",
        tree.trim(),
    ]);
    let forged = git(&fleet, &args).ok().stdout;
    git(
        &fleet,
        &["update-ref", "refs/heads/admitted", forged.trim()],
    )
    .ok();
    refused_and_kept_up(
        &host,
        &web,
        &[
            "SEQUENCE_GAP",
            "CHAIN_BROKEN",
            "LOG_FORK",
            "CHANGE_MISMATCH",
            "MANIFEST_MALFORMED",
        ],
    );
}

#[test]
fn freshness_that_ran_out_starts_nothing_new() {
    let (fleet, host, web) = running();
    git(&fleet, &["update-ref", "-d", "refs/heads/fresh"]).ok();
    refused_and_kept_up(&host, &web, &["REF_MISSING"]);
}

#[test]
fn a_destroyed_journal_is_begun_anew() {
    let (fleet, mut host, web) = running();
    host.kill();
    for entry in walk(&host.state().join("journal")) {
        std::fs::write(&entry, b"not a database").unwrap();
    }
    host.start();
    fleet.release("web", "text v2\n");
    wait::until("v2 answers", Duration::from_secs(60), || {
        (http::get(web.port.unwrap(), "/")? == (200, "v2".to_owned())).then_some(())
    });
    host.wait_for("v2 is live", "web", is_live);
    host.agent(&["history", "web"]).ok();
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

#[test]
fn a_second_agent_on_the_host_is_refused() {
    let (_fleet, host, web) = running();
    host.agent(&["run"]).refused("ALREADY_RUNNING");
    assert_eq!(
        http::get(web.port.unwrap(), "/"),
        Some((200, "v1".to_owned()))
    );
}

#[test]
fn a_private_repository_is_read_over_https_with_token_and_ca() {
    let web = Service::web("web");
    let fleet = Fleet::new("hosts: any\n", std::slice::from_ref(&web));
    let server = GitServer::start(&fleet.path("server"), &fleet.path("")).unwrap();
    let url = server.url("state.git");
    let (ca, token) = (server.ca(), server.token());
    let extra = [
        "--ca",
        ca.to_str().unwrap(),
        "--token",
        token.to_str().unwrap(),
    ];
    let mut host = Host::enroll(
        fleet.path("hosts/one"),
        "one",
        &url,
        &fleet.domain(),
        &extra,
    );
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    // A token that the server no longer takes.
    std::fs::write(&token, "reader:wrong").unwrap();
    refused_and_kept_up(&host, &web, &["FETCH_FAILED"]);
    std::fs::write(&token, GitServer::TOKEN).unwrap();
    fleet.release("web", "text v2\n");
    wait::until("v2 answers", Duration::from_secs(60), || {
        (http::get(web.port.unwrap(), "/")? == (200, "v2".to_owned())).then_some(())
    });
    // Without the CA nothing is believed, not even the first time.
    let other = fleet.path("hosts/two");
    let refused = Host::try_enroll(
        other,
        "two",
        &url,
        &fleet.domain(),
        &["--token", token.to_str().unwrap()],
    );
    assert!(
        refused.1.all().contains("FETCH_FAILED") || {
            refused.0.agent(&["once"]).all().contains("FETCH_FAILED")
        }
    );
}
