//! Several remotes: one that hangs, lags, lies or is damaged neither delays nor spoils what a good one serves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use state::sshsig::{self, Namespace};
use tests::attack::forge::Forge;
use tests::fleet::{Fleet, Service};
use tests::gate::Gate;
use tests::host::{Host, is_live};
use tests::{http, program, wait};

const SOON: Duration = Duration::from_secs(30);

/// A fleet that has admitted its rules (1) and the first release of its service (2).
fn fleet() -> (Fleet, Service) {
    let web = Service {
        strategy: "{ blueGreen: { bake: 100ms } }",
        ..Service::web("web")
    };
    let fleet = Fleet::new("hosts: any\n", std::slice::from_ref(&web));
    (fleet, web)
}

/// A host of the fleet that follows `first`, and after it the fleet's own repository.
fn host(fleet: &Fleet, first: &str) -> Host {
    let good = format!("file://{}", fleet.path("state.git").display());
    let extra = ["--repository", &good];
    let (root, domain) = (fleet.path("hosts/one"), fleet.domain());
    Host::enroll(root, "one", first, &domain, &extra)
}

/// A copy of the state repository as it is now, and its URL.
fn copy(fleet: &Fleet) -> (std::path::PathBuf, String) {
    let copy = fleet.path("copy.git");
    let mut cp = program::command("cp", &fleet.path(""));
    program::run(cp.arg("-r").arg(fleet.path("state.git")).arg(&copy)).ok();
    let url = format!("file://{}", copy.display());
    (copy, url)
}

fn answers(web: &Service, text: &str) {
    wait::until(&format!("{text} answers"), SOON * 2, || {
        (http::get(web.port.unwrap(), "/")? == (200, text.to_owned())).then_some(())
    });
}

/// Waits until the status satisfies `condition`, and returns it.
#[track_caller]
fn status(host: &Host, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, SOON, || {
        let status = host.status();
        condition(&status).then_some(status)
    })
}

#[test]
fn a_remote_that_hangs_delays_nothing_and_is_named() {
    let (fleet, web) = fleet();
    // It accepts, and says nothing, for the two minutes of the usual deadline.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/state.git", silent.local_addr().unwrap());
    let mut host = host(&fleet, &url);
    let begun = Instant::now();
    host.start();
    status(&host, "the good remote is believed", |status| {
        status["pass"]["sequence"] == 2 && status["remotes"][1]["serves"] == true
    });
    host.wait_for("v1 is live", "web", is_live);
    fleet.release("web", "text v2\n");
    status(&host, "the update is accepted", |status| {
        status["pass"]["sequence"] == 3
    });
    assert!(
        begun.elapsed() < Duration::from_secs(110),
        "nobody waited for the deadline"
    );
    answers(&web, "v2");
    let shown = host.status();
    assert_eq!(shown["remotes"][0]["url"], url.as_str());
    assert!(
        shown["remotes"][0]["fetchingSince"].is_string(),
        "{shown:#}"
    );
    assert_eq!(host.agent(&["status"]).code, 0, "{shown:#}");

    // With a deadline of its own it is told so, again and again.
    let path = host.root().join("etc/writ/agent.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = format!("- url: {url}\n");
    assert!(text.contains(&line), "{text}");
    std::fs::write(
        &path,
        text.replace(&line, &format!("{line}  deadline: 500ms\n")),
    )
    .unwrap();
    host.kill();
    host.start();
    status(&host, "the silent remote is refused", |status| {
        status["remotes"][0]["refused"]["code"] == "FETCH_TIMEOUT"
    });
    tests::earned::earn_here("FETCH_TIMEOUT");
    host.wait_for("v2 is live", "web", is_live);
    let text = host.agent(&["status"]).ok().stdout;
    assert!(
        text.contains("FETCH_TIMEOUT") && text.contains(", believed"),
        "{text}"
    );
}

#[test]
fn a_remote_that_lags_is_named_and_the_host_is_well() {
    let (fleet, web) = fleet();
    let (_, url) = copy(&fleet);
    let mut host = host(&fleet, &url);
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    fleet.release("web", "text v2\n");
    let shown = status(&host, "the mirror that lags is named", |status| {
        status["remotes"][0]["refused"]["code"] == "LOG_ROLLBACK"
    });
    assert_eq!(shown["remotes"][0]["sequence"], 2, "{shown:#}");
    assert_eq!(shown["remotes"][1]["serves"], true, "{shown:#}");
    answers(&web, "v2");
    host.wait_for("v2 is live", "web", is_live);
    host.agent(&["status"]).ok();
}

#[test]
fn a_host_that_is_too_old_for_one_remote_says_so_while_another_lags() {
    let (fleet, web) = fleet();
    let (newer, url) = copy(&fleet);
    let forge = Forge::of(&fleet, &newer);
    let draft = forge.empty_draft(forge.origin(&forge.tip("main")));
    let text = draft.manifest.print().replace("manifest v1", "manifest v2");
    let signature = sshsig::sign(&forge.key("policy"), Namespace::Manifest, text.as_bytes());
    forge.append(draft, text.as_bytes(), signature.as_bytes());
    let mut host = host(&fleet, &url);
    host.start();
    let shown = status(&host, "the newer remote is refused", |status| {
        status["remotes"][1]["serves"] == true && status["pass"]["refused"].is_object()
    });
    assert_eq!(shown["pass"]["refused"]["code"], "MANIFEST_NEWER");
    assert_eq!(shown["remotes"][1]["refused"], Value::Null);
    host.wait_for("v1 is live", "web", is_live);
    answers(&web, "v1");
    let said = host.agent(&["status"]);
    assert!(said.code == 1 && said.all().contains("upgrade"), "{said:?}");
}

#[test]
fn a_fork_is_loud_and_both_sides_are_kept() {
    let (fleet, web) = fleet();
    let (forged, url) = copy(&fleet);
    let forge = Forge::of(&fleet, &forged);
    let last = forge.last();
    let mut host = host(&fleet, &url);
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    // Somebody with policy's key signs the same admission once more, a second later.
    forge.point("admitted", &forge.parent(&last.commit));
    forge.admit_edited(|draft| {
        draft.manifest.issued = last.manifest.issued + Duration::from_secs(1);
    });
    let shown = status(&host, "the fork is refused", |status| {
        status["pass"]["refused"]["code"] == "LOG_FORK"
    });
    tests::earned::earn_here("LOG_FORK");
    assert_eq!(host.agent(&["status"]).code, 1);
    assert_eq!(
        shown["remotes"][0]["refused"]["code"], "LOG_FORK",
        "{shown:#}"
    );
    assert!(shown["remotes"][1]["refused"].is_null(), "{shown:#}");
    let case = Path::new(shown["evidence"][0].as_str().unwrap());
    let kept = |side: &str| std::fs::read_to_string(case.join(side).join("manifest")).unwrap();
    assert_eq!(kept("accepted"), last.manifest.print());
    assert_eq!(kept("shown"), forge.last().manifest.print());
    // What the honest remote serves goes on.
    fleet.release("web", "text v2\n");
    answers(&web, "v2");
}

#[test]
fn a_damaged_mirror_is_moved_aside_and_fetched_anew() {
    let (fleet, web) = fleet();
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    host.kill();
    let mirrors = host.state().join("mirrors");
    let mirror = std::fs::read_dir(&mirrors)
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    for file in std::fs::read_dir(mirror.join("objects/pack"))
        .unwrap()
        .flatten()
    {
        std::fs::remove_file(file.path()).unwrap();
    }
    host.start();
    fleet.release("web", "text v2\n");
    answers(&web, "v2");
    let history = host.agent(&["history"]).ok().stdout;
    assert!(
        history.contains("was damaged, and is fetched anew"),
        "{history}"
    );
    assert!(mirror.with_extension("damaged").is_dir());
}

#[test]
fn a_host_that_starts_offline_knows_what_was_accepted() {
    let (fleet, _) = fleet();
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let before = host.status();
    host.kill();
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    host.start();
    let now = status(&host, "the agent has looked", |status| {
        status["agent"]["pid"] != before["agent"]["pid"] && status["pass"].is_object()
    });
    for field in ["sequence", "manifest", "freshUntil"] {
        assert_eq!(now["pass"][field], before["pass"][field], "{field}");
    }
    assert_eq!(now["pass"]["refused"]["code"], "FETCH_FAILED");
    let text = host.agent(&["status"]).stdout;
    assert!(!text.contains("nothing accepted yet"), "{text}");
}

#[test]
fn a_floor_outlives_reboot_and_reinstall() {
    let (fleet, _) = fleet();
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let (old, _) = copy(&fleet);
    fleet.release("web", "text v2\n");
    status(&host, "v2 is accepted", |status| {
        status["pass"]["sequence"] == 3
    });
    host.kill();
    let floor = std::fs::read_to_string(host.state().join("floor.json")).unwrap();
    // What a reboot takes, and what a package that is installed anew has not got.
    for lost in [
        "run/writ",
        "var/lib/writ/agent/mirrors",
        "var/lib/writ/agent/journal",
    ] {
        std::fs::remove_dir_all(host.root().join(lost)).unwrap();
    }
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    std::fs::rename(&old, fleet.path("state.git")).unwrap();
    host.start();
    status(&host, "the old log is refused", |status| {
        status["pass"]["refused"]["code"] == "LOG_ROLLBACK"
    });
    tests::earned::earn_here("LOG_ROLLBACK");
    let now = std::fs::read_to_string(host.state().join("floor.json")).unwrap();
    assert_eq!(now, floor, "sequence, hash and time are as they were");
}

#[test]
fn an_ssh_that_hangs_ends_at_the_deadline_and_with_the_agent() {
    let fleet = Fleet::new("hosts: any\n", &[]);
    let gate = Gate::new(fleet.path("hosts/one-ssh"));
    gate.close();
    let url = Gate::url(&fleet.path("state.git"));
    let root = fleet.path("hosts/one");
    let mut host = Host::enroll(root, "one", &url, &fleet.domain(), &[]);
    host.prefer_programs_in(gate.folder());
    let remote = |deadline| serde_json::json!([{ "url": &url, "deadline": deadline }]);
    host.configure("remotes", remote("1s"));
    host.start();
    status(&host, "the deadline is over", |status| {
        status["pass"]["refused"]["code"] == "FETCH_TIMEOUT"
    });
    host.kill();
    all_gone(&gate, "after the deadline");

    host.configure("remotes", remote("10m"));
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
        let before = gate.pids().len();
        host.start();
        wait::until("ssh was started again", SOON, || {
            let pids = gate.pids();
            pids[before..].iter().any(|pid| lives(*pid)).then_some(())
        });
        host.end(signal);
        all_gone(&gate, &format!("{signal:?}"));
    }
}

/// Says whether a process is there, and not only its exit code.
fn lives(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with('Z')
}

#[track_caller]
fn all_gone(gate: &Gate, when: &str) {
    wait::until(&format!("no ssh is left, {when}"), SOON, || {
        gate.pids().iter().all(|pid| !lives(*pid)).then_some(())
    });
}
