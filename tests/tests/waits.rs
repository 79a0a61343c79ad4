//! Waits of an agent: people are heard during all of them, none costs a processor, and none goes by a wrong clock.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, is_live};
use tests::{http, wait};

const RULES: &str = "hosts: any\n";
const SOON: Duration = Duration::from_secs(60);

/// A fleet whose service bakes for `bake`.
fn fleet(bake: &'static str) -> (Fleet, Host, Service) {
    let mut web = Service::web("web");
    web.strategy = bake;
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let host = fleet.host("one");
    (fleet, host, web)
}

/// Waits until the journal says `text` of web.
fn history_says(host: &Host, text: &str) {
    wait::until(text, SOON, || {
        let history = host.agent(&["history", "web"]).stdout;
        history.contains(text).then_some(())
    });
}

#[test]
fn an_operator_is_heard_while_a_slot_waits_to_be_started_again() {
    let (fleet, mut host, web) = fleet("{ blueGreen: { bake: 200ms } }");
    host.start();
    let first = host.wait_for("v1 is live", "web", is_live);
    let first = first["running"]["source"].as_str().unwrap().to_owned();
    let second = fleet.release("web", "text v2\nunhealthy-after 1500\n");
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == second.as_str()
    });
    history_says(&host, "again in 8s");
    let asked = Instant::now();
    let said = host.agent(&["rollback", "web"]).ok().stdout;
    assert!(said.contains("going back"), "{said}");
    host.wait_for("v1 is back", "web", |web| {
        is_live(web) && web["running"]["source"] == first.as_str()
    });
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(7), "after {took:?}");
    let served = http::get(web.port.unwrap(), "/");
    assert_eq!(served, Some((200, "v1".to_owned())));
}

/// The processor time that a process has had, in hundredths of a second.
fn ticks(pid: u64) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let field = |at: usize| fields[at].parse::<u64>().unwrap();
    field(11) + field(12)
}

#[test]
fn a_service_that_waits_for_its_restart_costs_no_processor() {
    let (fleet, mut host, _) = fleet("{ blueGreen: { bake: 200ms } }");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let commit = fleet.release("web", "text v2\nexit-after 1500\n");
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == commit.as_str()
    });
    let agent = host.status()["agent"]["pid"].as_u64().unwrap();
    let state = host.services().join("web/slots/green/state.json");
    let waits = || -> Option<bool> {
        let state: Value = serde_json::from_slice(&std::fs::read(&state).ok()?).ok()?;
        Some(state["process"].is_null() && state["restarts"].as_u64()? >= 2)
    };
    wait::until("it waits for four seconds", SOON, || {
        (waits() == Some(true)).then_some(())
    });
    let (begun, before) = (Instant::now(), ticks(agent));
    wait::until("it is started again", SOON, || {
        (waits() == Some(false)).then_some(())
    });
    let (took, used) = (begun.elapsed(), ticks(agent) - before);
    assert!(took > Duration::from_secs(2), "no window: {took:?}");
    let share = f64::from(u32::try_from(used).unwrap()) / 100.0 / took.as_secs_f64();
    assert!(share < 0.1, "{:.0} % of a core for {took:?}", share * 100.0);
}

#[test]
fn a_bake_that_a_clock_ahead_began_is_as_long_as_any_other() {
    let (fleet, mut host, _) = fleet("{ blueGreen: { bake: 200ms } }");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    host.kill();
    let second = fleet.source("web", "text v2\n");
    let overlay =
        format!("source: {{ commit: \"{second}\" }}\nstrategy: {{ blueGreen: {{ bake: 8s }} }}\n");
    fleet.write("environments/dev/web.yaml", &overlay);
    fleet.commit("Release web").ok();
    fleet.push().ok();
    host.start_with_clock("+10h");
    host.wait_for("v2 bakes", "web", |web| web["phase"] == "baking");
    let begun = Instant::now();
    host.kill();
    host.start();
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == second.as_str()
    });
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(5), "baked for {took:?} only");
}
