//! What many services cost one agent: the first sync of 1,000 trivial ones, the processor time of each beside that at
//! 100, and a pass that finds nothing new beside that at 10.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::fleet::Fleet;
use tests::host::Host;
use tests::server::GitServer;
use tests::{program, wait};

use crate::cost::{cpu_ms, status_kib};
use crate::poll::passes_of;

const PASSES: usize = 100;
/// For how long the agent is watched while it only keeps an eye on what runs.
const WATCHED: Duration = Duration::from_secs(20);
const WITHIN: Duration = Duration::from_secs(600);

/// What one number of services took.
struct Measured {
    sync: Duration,
    /// Milliseconds of processor time for each service: of the agent, all it started, and the supervisors.
    each: f64,
    /// Milliseconds of processor time for a pass without news, beyond what watching takes.
    pass: f64,
    /// Milliseconds of processor time a second for watching.
    watching: f64,
    agent_kib: u64,
    shims_kib: u64,
}

/// Prints the three measures, with their ratios and limits.
pub(crate) fn run() -> Result<()> {
    let few = measure(10)?;
    let some = measure(100)?;
    let many = measure(1_000)?;
    println!(
        "scale: first sync of 1,000 services {:.1} s (at most 30; 100: {:.1} s), CPU for each {:.1} ms, at 100 {:.1} ms, \
         ratio {:.2} (at most 1.30)",
        many.sync.as_secs_f64(),
        some.sync.as_secs_f64(),
        many.each,
        some.each,
        many.each / some.each,
    );
    println!(
        "scale: a pass without news {:.2} ms CPU, at 10 services {:.2} ms, ratio {:.2} (at most 1.50); watching 1,000 \
         services {:.1} ms CPU a second",
        many.pass,
        few.pass,
        many.pass / few.pass,
        many.watching,
    );
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "scale: RssAnon of the agent {:.1} MiB (at most 64), of its 1,000 supervisors {:.1} MiB together",
        mib(many.agent_kib),
        mib(many.shims_kib),
    );
    Ok(())
}

fn measure(count: usize) -> Result<Measured> {
    let fleet = Fleet::new("hosts: any\n", &[]);
    fill(&fleet, count)?;
    let server = GitServer::start(&fleet.path("server"), &fleet.path(""))?;
    let url = server.url("state.git");
    let (ca, token) = (server.ca(), server.token());
    let paths = [&ca, &token].map(|path| path.to_str().unwrap_or_default());
    let extra = ["--ca", paths[0], "--token", paths[1], "--poll", "1h"];
    let mut host = Host::enroll(
        fleet.path("hosts/bench"),
        "bench",
        &url,
        &fleet.domain(),
        &extra,
    );
    let status = host.state().join("status.json");
    let begun = Instant::now();
    host.start();
    wait::until("all services are live", WITHIN, || {
        (live(&status) == count).then_some(())
    });
    let sync = begun.elapsed();
    let agent = host.daemon().context("the agent runs")?;
    let spent = |pid: u32| cpu_ms(&pid.to_string()).0;
    let started = cpu_ms(&agent.to_string()).1;
    let cpu: u64 = host.processes().into_iter().map(spent).sum();
    let shims = host.processes_named("agent").into_iter();
    let shims = shims.filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    let shims: Vec<u32> = shims.filter(|pid| is_shim(*pid)).collect();
    let shims_kib = shims.iter().map(|pid| status_kib(*pid, "RssAnon:")).sum();
    let agent_kib = status_kib(agent, "RssAnon:");

    // The agent and its fetch worker; not what it watches.
    let own = |host: &Host| -> u64 {
        let pids = host.processes_named("agent").into_iter();
        let pids = pids.filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        pids.filter(|pid| !is_shim(*pid)).map(spent).sum()
    };
    let before = own(&host);
    std::thread::sleep(WATCHED);
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let watching = (own(&host) - before) as f64 / WATCHED.as_secs_f64();

    host.end(Signal::TERM);
    host.configure("poll", json!("100ms"));
    host.start();
    let first = passes_of(&server);
    let passed = |count: usize| {
        wait::until("passes", WITHIN, || {
            (passes_of(&server) >= count).then_some(())
        });
    };
    passed(first + 50);
    let (before, from, begun) = (own(&host), passes_of(&server), Instant::now());
    passed(from + PASSES);
    let (after, to) = (own(&host), passes_of(&server));
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let (spent, passes) = ((after - before) as f64, (to - from) as f64);
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let measured = Measured {
        sync,
        each: (cpu + started) as f64 / count as f64,
        pass: (spent - watching * begun.elapsed().as_secs_f64()) / passes,
        watching,
        agent_kib,
        shims_kib,
    };
    println!(
        "scale: {count} services: {:.1} s, {:.1} ms CPU each; a pass {:.2} ms; watching {:.1} ms/s; RssAnon {} KiB, {} \
         supervisors {} KiB",
        measured.sync.as_secs_f64(),
        measured.each,
        measured.pass,
        measured.watching,
        measured.agent_kib,
        shims.len(),
        measured.shims_kib
    );
    Ok(measured)
}

/// Adds `count` services of one source repository, which only wait.
fn fill(fleet: &Fleet, count: usize) -> Result<()> {
    let source = fleet.path("sources/all");
    std::fs::create_dir_all(&source)?;
    program::run(
        program::command("git", &fleet.path(""))
            .args(["init", "-q", "-b", "main"])
            .arg(&source),
    )
    .ok();
    let commit = fleet.source("all", "nothing\n");
    for number in 0..count {
        let name = format!("service-{number}");
        let text = format!(
            "source: {{ repository: \"file://{}\", branch: main }}\n\
             build: {{ output: [ behaviour ] }}\n\
             run: {{ command: [ sleep, infinity ] }}\n\
             strategy: {{ recreate: {{ bake: 1s }} }}\n",
            source.display()
        );
        fleet.write(&format!("services/{name}/service.yaml"), &text);
        let pin = format!("source: {{ commit: \"{commit}\" }}\n");
        fleet.write(&format!("environments/dev/{name}.yaml"), &pin);
    }
    fleet.commit("Add the services").ok();
    fleet.push().ok();
    Ok(())
}

/// How many services are live by the file; asking the agent would cost it time that is measured.
fn live(status: &Path) -> usize {
    let bytes = std::fs::read(status).unwrap_or_default();
    let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let services = status["services"].as_array();
    services.map_or(0, |services| {
        services
            .iter()
            .filter(|service| tests::host::is_live(service))
            .count()
    })
}

fn is_shim(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .any(|argument| argument == b"shim")
}
