//! What comes too early waits: it is let in, leaks nothing into the admitted tree, and is admitted at its time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Fleet, command};
use jiff::{Timestamp, ToSpan as _};
use policy::admit::Pass;

/// One pass at some other time than now.
fn pass(fleet: &Fleet, now: Timestamp) -> Pass {
    fleet.pass(now).unwrap()
}

/// Polls `done` until it holds.
#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_change_in_cooldown_is_let_in_and_admitted_at_its_time() {
    let fleet = Fleet::new("hosts: any\ncooldown: 1h\n", &["web", "api"]);
    fleet.write("services/new/service.yaml", common::SERVICE);
    fleet.pin("new", 1);
    fleet.pin("web", 2);
    fleet.commit("Release web, add new");
    let outcome = fleet.push();
    assert!(
        outcome.code == 0 && outcome.says("wait") && outcome.says("COOLDOWN"),
        "{outcome:?}"
    );
    // The one that waits delays no other, and its new pin is nowhere in what was admitted.
    assert_eq!(fleet.sequence(), 2);
    assert!(fleet.admitted("releases/dev/new.yaml").code == 0);
    assert!(fleet.admits("web", 1));

    let pending = fleet.policy(&["pending", "state.git"]);
    assert!(
        pending.code == 75 && pending.says("web") && pending.says("COOLDOWN"),
        "{pending:?}"
    );
    assert_eq!(fleet.policy(&["admit", "state.git"]).code, 75);
    fleet.git(&["fetch", "-q"]).ok();
    assert_eq!(fleet.author(&["check"]).code, 75);

    let early = pass(&fleet, Timestamp::now() + 50.minutes());
    assert!(early.admitted.is_empty() && early.left.len() == 1);
    let due = early.next(Timestamp::now() + 50.minutes());
    let late = pass(&fleet, due);
    assert_eq!(late.admitted.len(), 1);
    assert!(fleet.admits("web", 2));
}

#[test]
fn what_waits_is_judged_again_from_the_newest_main() {
    let fleet = Fleet::new("hosts: any\ncooldown: 1h\n", &["web"]);
    for digit in [2, 3] {
        fleet.pin("web", digit);
        fleet.commit("Release web");
        fleet.push().ok();
    }
    let late = pass(&fleet, Timestamp::now() + 61.minutes());
    assert_eq!((late.admitted.len(), late.left.len()), (1, 0));
    assert!(fleet.admits("web", 3));
}

#[test]
fn a_burst_beyond_the_rate_waits_and_a_refusing_cooldown_refuses() {
    let fleet = Fleet::new("hosts: any\nrate: { perHour: 2 }\n", &["web"]);
    fleet.pin("web", 2);
    fleet.commit("Release web 2");
    fleet.push().ok();
    fleet.pin("web", 3);
    fleet.commit("Release web 3");
    assert!(fleet.push().says("RATE_LIMITED"));
    assert_eq!(fleet.sequence(), 2);

    let fleet = Fleet::new("hosts: any\ncooldown: 1h\nonCooldown: refuse\n", &["web"]);
    fleet.refuses(
        "environments/dev/web.yaml",
        &format!("source: {{ commit: \"{}\" }}\n", "2".repeat(40)),
        "COOLDOWN",
    );
}

#[test]
fn fresh_is_renewed_after_an_hour_and_not_before() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let before = fleet.refs();
    pass(&fleet, Timestamp::now() + 59.minutes());
    assert_eq!(fleet.refs(), before);
    pass(&fleet, Timestamp::now() + 61.minutes());
    assert_ne!(fleet.refs(), before);
    assert_eq!(fleet.sequence(), 1);
}

fn daemon(fleet: &Fleet) -> Command {
    let mut command = command("policy", &fleet.path(""));
    command.args(["run", "state.git"]);
    command
}

/// A daemon that ends with the value.
struct Daemon {
    child: Child,
    /// Read by nobody after its first line, and kept open for the rest.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Daemon {
    /// Starts it and waits until it watches.
    fn start(fleet: &Fleet) -> Self {
        let mut child = daemon(fleet).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("serving "), "{line}");
        Self {
            child,
            _stdout: Some(stdout),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_daemon_admits_what_waited_and_what_hooks_without_a_key_let_in() {
    let fleet = Fleet::new("hosts: any\ncooldown: 3s\n", &["web", "api"]);
    let _daemon = Daemon::start(&fleet);
    let admitted = |name: &str| {
        fleet
            .admitted(&format!("releases/dev/{name}.yaml"))
            .stdout
            .contains(&"2".repeat(40))
    };
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    wait_until("web is admitted after its cooldown", || admitted("web"));
    // The daemon read the key when it started; from here on the hook may not.
    std::fs::rename(fleet.path("keys/policy"), fleet.path("keys/elsewhere")).unwrap();
    fleet.pin("api", 2);
    fleet.commit("Release api");
    assert!(fleet.push().says("policy run"));
    wait_until("api is admitted by the daemon", || admitted("api"));
}

#[test]
fn the_daemon_tells_events_instead_of_words_where_it_is_asked_to() {
    let fleet = Fleet::new("hosts: any\ncooldown: 3s\n", &["web"]);
    let [words, events] = ["words", "events"].map(|name| fleet.path(name));
    let file = |path| std::fs::File::create(path).unwrap();
    let mut command = daemon(&fleet);
    let command = command.env("RUST_LOG", "info").stdout(file(&words));
    let _daemon = Daemon {
        child: command.stderr(file(&events)).spawn().unwrap(),
        _stdout: None,
    };
    let told = |parts: &[&str]| {
        let events = std::fs::read_to_string(&events).unwrap();
        let mut lines = events.lines();
        lines.any(|line| parts.iter().all(|part| line.contains(part)))
    };
    wait_until("it says what it serves", || {
        told(&["INFO", "serving", "state.git"])
    });
    std::fs::rename(fleet.path("keys/policy"), fleet.path("keys/elsewhere")).unwrap();
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    let web = "environment=dev name=web";
    wait_until("it says that web waits", || {
        told(&["INFO", "wait", web, "code=COOLDOWN", "until=20"])
    });
    wait_until("it says that web is admitted", || {
        told(&["INFO", "admit sequence=2", web]) && told(&["pass admitted=1 left=0 refused=0"])
    });
    std::fs::remove_file(fleet.path("state.git/refs/heads/trust")).unwrap();
    wait_until("it says what is wrong", || {
        told(&["WARN", "refused", "code=REF_MISSING", "remedy=\""])
    });
    assert_eq!(std::fs::read_to_string(words).unwrap(), "");
}
