//! What it costs to find nothing new: passes of `agent run` against `git ls-remote`, on the same https remote.

use std::time::Duration;

use anyhow::Result;
use tests::fleet::Fleet;
use tests::host::Host;
use tests::program;
use tests::server::GitServer;
use tests::wait;

use crate::cost::{cpu_ms, status_kib};

const PASSES: usize = 1_000;
const PEER_RUNS: usize = 200;

pub(crate) fn passes_of(server: &GitServer) -> usize {
    let log = std::fs::read_to_string(server.access_log()).unwrap_or_default();
    log.lines()
        .filter(|line| line.contains("POST") && line.contains("git-upload-pack"))
        .count()
}

/// Prints CPU a pass, the peer's CPU a run, their ratio, and the memory of agent and worker after all passes.
pub(crate) fn run() -> Result<()> {
    let fleet = Fleet::new("hosts: any\n", &[]);
    let server = GitServer::start(&fleet.path("server"), &fleet.path(""))?;
    let url = server.url("state.git");
    let (ca, token) = (server.ca(), server.token());
    let extra = [
        "--ca",
        ca.to_str().unwrap_or_default(),
        "--token",
        token.to_str().unwrap_or_default(),
        "--poll",
        "100ms",
    ];
    let mut host = Host::enroll(
        fleet.path("hosts/bench"),
        "bench",
        &url,
        &fleet.domain(),
        &extra,
    );
    host.start();
    let wait_for = |count: usize| {
        wait::until("passes", Duration::from_secs(300), || {
            (passes_of(&server) >= count).then_some(())
        });
    };
    wait_for(20);
    let processes = || -> Vec<u32> { host.processes() };
    let total = || {
        processes()
            .iter()
            .map(|pid| cpu_ms(&pid.to_string()).0)
            .sum::<u64>()
    };
    let (before, first) = (total(), passes_of(&server));
    wait_for(first + PASSES);
    let (after, last) = (total(), passes_of(&server));
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let pass = (after - before) as f64 / (last - first) as f64;

    let own = || cpu_ms("self").1;
    let begin = own();
    for _ in 0..PEER_RUNS {
        program::run(
            program::command("git", &fleet.path(""))
                .env("GIT_SSL_CAINFO", &ca)
                .args([
                    "-c",
                    &format!("http.extraHeader=Authorization: {}", server.authorization()),
                    "ls-remote",
                    &url,
                ]),
        )
        .ok();
    }
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let peer = (own() - begin) as f64 / PEER_RUNS as f64;
    let sum = |field: &str| {
        processes()
            .iter()
            .map(|pid| status_kib(*pid, field))
            .sum::<u64>()
    };
    println!(
        "poll: {pass:.2} ms CPU a pass, git ls-remote {peer:.2} ms, ratio {:.2} (at most 0.30); \
         after {} passes RssAnon {:.1} MiB (at most 16), RSS {:.1} MiB, {} processes",
        pass / peer,
        last,
        sum("RssAnon:") as f64 / 1024.0,
        sum("VmRSS:") as f64 / 1024.0,
        processes().len(),
    );
    Ok(())
}
