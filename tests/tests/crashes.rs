//! The agent is killed, again and again, and whoever comes after it ends where it would have ended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// Releases `behaviour` and kills the agent as soon as its record was replaced `writes` times; returns the source
/// commit, or `None` if there were fewer.
fn release_and_kill(
    fleet: &Fleet,
    host: &mut Host,
    behaviour: &str,
    writes: u32,
) -> Option<String> {
    let record = host
        .root()
        .join("var/lib/writ/agent/services/web/record.json");
    std::thread::scope(|scope| {
        let releasing = scope.spawn(|| fleet.release("web", behaviour));
        let killed = kill_after(host, &record, writes);
        let commit = releasing.join().unwrap();
        killed.then_some(commit)
    })
}

fn kill_after(host: &mut Host, record: &Path, writes: u32) -> bool {
    let version = || {
        let file = std::fs::metadata(record).ok()?;
        Some((file.ino(), file.mtime(), file.mtime_nsec()))
    };
    let (mut last, mut seen) = (version(), 0);
    let deadline = Instant::now() + Duration::from_secs(8);
    while Instant::now() < deadline {
        let now = version();
        if now != last {
            (last, seen) = (now, seen + 1);
            if seen == writes {
                host.kill();
                return true;
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    false
}

/// Asks the service all the time; counts the answers and what is not one.
struct Client {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Client {
    fn start(port: u16) -> Self {
        let (stop, good, bad) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (ends, well, ill) = (stop.clone(), good.clone(), bad.clone());
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let answer = http::get(port, "/");
                let count = if matches!(answer, Some((200, _))) {
                    &well
                } else {
                    &ill
                };
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            good,
            bad,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (
            self.good.load(Ordering::Relaxed),
            self.bad.load(Ordering::Relaxed),
        )
    }
}

#[test]
fn an_agent_killed_after_any_durable_write_is_followed_by_one_that_ends_the_same() {
    let mut web = Service::web("web");
    web.strategy = "{ blueGreen: { bake: 300ms } }";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v0 is live", "web", |web| web["phase"] == "live");
    let client = Client::start(web.port.unwrap());
    let mut killed = 0;
    for writes in 1..=20 {
        let behaviour = format!("text v{writes}\n");
        let Some(commit) = release_and_kill(&fleet, &mut host, &behaviour, writes) else {
            break;
        };
        killed = writes;
        host.start();
        host.wait_for(
            &format!("live after a kill at write {writes}"),
            "web",
            runs(&commit),
        );
        let answer = http::get(web.port.unwrap(), "/");
        assert_eq!(answer, Some((200, format!("v{writes}"))));
    }
    let (good, bad) = client.end();
    assert!(killed >= 12, "only {killed} writes were seen");
    assert!(good > 1000, "{good}");
    assert_eq!(bad, 0, "of {good} requests over {killed} kills");
}

#[test]
fn an_agent_killed_after_any_durable_write_of_a_failing_release_is_followed_by_one_that_holds_it() {
    let mut web = Service::web("web");
    web.strategy = "{ blueGreen: { bake: 5s } }";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v0 is live", "web", |web| web["phase"] == "live");
    let client = Client::start(web.port.unwrap());
    for writes in [3, 6, 8, 10, 11, 12] {
        let behaviour = format!("text v{writes}\nunhealthy-after 2500\n");
        let killed = release_and_kill(&fleet, &mut host, &behaviour, writes);
        assert!(
            killed.is_some(),
            "write {writes}: {}\n{}",
            host.service("web"),
            host.log()
        );
        host.start();
        host.wait_for("held after a kill", "web", |web| {
            web["phase"] == "live" && web["held"]["code"] == "UNHEALTHY"
        });
        wait::until("v1 serves again", Duration::from_secs(5), || {
            (http::get(web.port.unwrap(), "/") == Some((200, "v1".to_owned()))).then_some(())
        });
    }
    let (good, _) = client.end();
    assert!(good > 1000, "{good}");
}

#[test]
fn a_restarted_agent_restarts_no_service() {
    let web = Service::web("web");
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", |web| web["phase"] == "live");
    let services = |host: &Host| {
        let all = host.processes().into_iter();
        let comm =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut found: Vec<u32> = all.filter(|pid| comm(pid).trim() == "service").collect();
        found.sort_unstable();
        found
    };
    let before = services(&host);
    host.kill();
    assert_eq!(host.agent(&["status"]).code, 3);
    host.start();
    host.wait_for("web is live still", "web", |web| web["health"] == "healthy");
    assert_eq!(services(&host), before);
    assert_eq!(before.len(), 1);
}

/// What a power failure leaves: no process, and records of another boot.
fn lose_power(host: &mut Host) {
    host.kill();
    wait::until("all processes are gone", Duration::from_secs(10), || {
        let left = host.processes();
        for pid in &left {
            let pid = i32::try_from(*pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            let _ = rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL);
        }
        left.is_empty().then_some(())
    });
    let record = host
        .root()
        .join("var/lib/writ/agent/services/web/record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["deployment"]["boot"] = "another-boot".into();
    std::fs::write(&record, json.to_string()).unwrap();
}

#[test]
fn after_a_reboot_what_was_live_is_started_before_anything_is_fetched() {
    let web = Service::web("web");
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("web is live", "web", |web| web["phase"] == "live");
    lose_power(&mut host);
    assert_eq!(http::get(web.port.unwrap(), "/"), None);
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    host.start();
    wait::until("web serves again", Duration::from_secs(20), || {
        http::get(web.port.unwrap(), "/").filter(|answer| answer.0 == 200)
    });
    host.wait_for("web is live again", "web", |web| web["health"] == "healthy");
}

#[test]
fn a_reboot_during_a_bake_boots_the_old_release_and_the_new_one_is_tried_again() {
    let mut web = Service::web("web");
    web.strategy = "{ blueGreen: { bake: 3s } }";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", |web| web["phase"] == "live");
    let commit = fleet.release("web", "text v2\n");
    host.wait_for("v2 bakes", "web", |web| web["phase"] == "baking");
    lose_power(&mut host);
    host.start();
    wait::until("v1 serves again", Duration::from_secs(20), || {
        (http::get(web.port.unwrap(), "/") == Some((200, "v1".to_owned()))).then_some(())
    });
    host.wait_for("v2 waits its time", "web", |web| {
        web["held"]["kind"] == "postponed" && web["held"]["code"] == "INTERRUPTED"
    });
    tests::earned::earn_here("INTERRUPTED");
    host.agent(&["retry", "web"]).ok();
    host.wait_for("v2 is live", "web", runs(&commit));
}
