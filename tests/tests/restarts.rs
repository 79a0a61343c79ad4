//! The agent is killed between "the new slot is healthy" and "requests move", and the world changes before it is back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::gate::Gate;
use tests::host::{Host, hold_code, is_live};
use tests::{http, wait};

const RULES: &str = "hosts: any\n";
const SOON: Duration = Duration::from_secs(30);

fn runs(commit: &str) -> impl Fn(&Value) -> bool {
    move |service| is_live(service) && service["running"]["source"] == commit
}

/// Says whether the process at `address` says that it is ready.
fn is_ready(address: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /health/ready HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(" 200 "))
}

/// A host that runs v1 of `web`, and whose agent was killed while v2 got ready.
struct CutShort {
    fleet: Fleet,
    host: Host,
    gate: Gate,
    port: u16,
    commits: [String; 2],
}

impl CutShort {
    fn new() -> Self {
        let mut web = Service::web("web");
        web.strategy = "{ blueGreen: { bake: 300ms } }";
        let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
        let gate = Gate::new(fleet.path("hosts/one-ssh"));
        let url = Gate::url(&fleet.path("state.git"));
        let root = fleet.path("hosts/one");
        let mut host = Host::enroll(root, "one", &url, &fleet.domain(), &[]);
        host.prefer_programs_in(gate.folder());
        host.start();
        let first = host.wait_for("v1 is live", "web", is_live);
        let first = first["running"]["source"].as_str().unwrap().to_owned();
        let second = fleet.release("web", "text v2\nready-after 2000\n");
        host.wait_for("v2 starts", "web", |web| web["phase"] == "ready");
        host.kill();
        let cut = Self {
            fleet,
            host,
            gate,
            port: web.port.unwrap(),
            commits: [first, second],
        };
        let record = cut.record();
        assert_eq!(record["deployment"]["phase"], "ready");
        let slot = record["deployment"]["slot"].as_str().unwrap().to_owned();
        let candidate = record["slots"][&slot]["address"]["tcp"].as_str().unwrap();
        wait::until("v2 is healthy", SOON, || is_ready(candidate).then_some(()));
        cut
    }

    fn record(&self) -> Value {
        let text = std::fs::read_to_string(self.host.services().join("web/record.json"));
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    /// Makes the record what it is when the agent dies after it announced that requests move, and before the proxy
    /// learns of it.
    fn announce_shift(&self) {
        let mut record = self.record();
        record["deployment"]["phase"] = "shifting".into();
        record["generation"] = (record["generation"].as_u64().unwrap() + 1).into();
        let path = self.host.services().join("web/record.json");
        std::fs::write(path, record.to_string()).unwrap();
    }

    /// Asserts that v1 runs, and that it alone ever got requests.
    #[track_caller]
    fn only_v1_was_served(&self) {
        assert_eq!(http::get(self.port, "/"), Some((200, "v1".to_owned())));
        let history = self.host.agent(&["history", "web"]).ok().stdout;
        assert_eq!(history.matches("shifting").count(), 1, "{history}");
    }

    fn hide_the_repository(&self) {
        let (here, away) = (self.fleet.path("state.git"), self.fleet.path("away.git"));
        std::fs::rename(here, away).unwrap();
    }

    fn show_the_repository(&self) {
        let (here, away) = (self.fleet.path("state.git"), self.fleet.path("away.git"));
        std::fs::rename(away, here).unwrap();
    }
}

#[test]
fn a_hold_that_came_while_the_agent_was_down_is_seen_before_requests_move() {
    let mut cut = CutShort::new();
    let [first, second] = cut.commits.clone();
    let overlay = |more: &str| {
        let text = format!("source: {{ commit: \"{second}\" }}\n{more}");
        cut.fleet.write("environments/dev/web.yaml", &text);
    };
    overlay("hold: \"found a bug\"\n");
    cut.fleet.commit("Hold web").ok();
    cut.fleet.push().ok();
    cut.gate.close();
    cut.host.start();
    let waiting = cut.host.wait_for("v2 waits for a remote", "web", |web| {
        web["deployment"]["waitsFor"].is_string()
    });
    assert_eq!(waiting["phase"], "ready");
    for command in [&["status"][..], &["why", "web"]] {
        let said = cut.host.agent(command).stdout;
        assert!(
            said.contains("waits for the first word of a remote"),
            "{said}"
        );
    }
    cut.only_v1_was_served();
    cut.gate.open();
    cut.host.wait_for("v2 is held", "web", |web| {
        hold_code(web) == Some("HELD") && runs(&first)(web)
    });
    earn_here("HELD");
    cut.only_v1_was_served();
    overlay("");
    cut.fleet.commit("Lift the hold").ok();
    cut.fleet.push().ok();
    cut.host.wait_for("v2 is live", "web", runs(&second));
}

#[test]
fn an_operators_hold_counts_before_requests_move_though_the_record_says_that_they_do() {
    let mut cut = CutShort::new();
    let [first, second] = cut.commits.clone();
    cut.announce_shift();
    cut.host.agent(&["hold", "web"]).ok();
    cut.only_v1_was_served();
    cut.host.start();
    cut.host.wait_for("v2 is held", "web", |web| {
        web["held"]["kind"] == "manual" && runs(&first)(web)
    });
    cut.only_v1_was_served();
    cut.host.agent(&["resume", "web"]).ok();
    cut.host.wait_for("v2 is live", "web", runs(&second));
}

#[test]
fn a_deployment_that_is_still_wanted_goes_on_after_the_first_word() {
    let mut cut = CutShort::new();
    cut.announce_shift();
    cut.host.start();
    cut.host
        .wait_for("v2 is live", "web", runs(&cut.commits[1]));
    assert_eq!(http::get(cut.port, "/"), Some((200, "v2".to_owned())));
}

#[test]
fn a_host_that_hears_nobody_goes_on_with_what_is_fresh() {
    let mut cut = CutShort::new();
    cut.gate.close();
    let url = Gate::url(&cut.fleet.path("state.git"));
    let remote = json!([{ "url": url, "deadline": "1s" }]);
    cut.host.configure("remotes", remote);
    cut.host.start();
    cut.host
        .wait_for("v2 is live", "web", runs(&cut.commits[1]));
    assert_eq!(
        cut.host.status()["pass"]["refused"]["code"],
        "FETCH_TIMEOUT"
    );
}

#[test]
fn a_host_that_hears_nobody_starts_nothing_stale_and_tries_again_with_the_next_word() {
    let mut cut = CutShort::new();
    let [first, second] = cut.commits.clone();
    cut.hide_the_repository();
    cut.host.start_with_clock("+3d");
    let web = cut.host.wait_for("v1 alone", "web", |web| {
        runs(&first)(web) && web["deployment"] == Value::Null
    });
    assert_eq!(web["held"], Value::Null, "v2 did not fail");
    cut.only_v1_was_served();
    let history = cut.host.agent(&["history", "web"]).ok().stdout;
    assert!(history.contains("STALE"), "{history}");
    cut.host.kill();
    cut.show_the_repository();
    cut.host.start();
    cut.host.wait_for("v2 is live", "web", runs(&second));
}
