//! What it costs to find nothing new: passes of `agent run` against `git ls-remote`, on the same https remote.

use std::time::Duration;

use anyhow::Result;
use tests::fleet::Fleet;
use tests::host::Host;
use tests::program;
use tests::server::GitServer;
use tests::wait;

const PASSES: usize = 1_000;
const PEER_RUNS: usize = 200;

/// Processor time of a process in milliseconds, and of the children it has waited for.
fn cpu_ms(pid: &str) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses; the rest is numbers.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let sum = |a: usize, b: usize| fields.get(a).unwrap_or(&0) + fields.get(b).unwrap_or(&0);
    // A clock tick is 10 ms on Linux whatever the kernel's own HZ is (USER_HZ).
    (sum(11, 12) * 10, sum(13, 14) * 10)
}

/// A field of /proc/<pid>/status in KiB.
fn status_kib(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn passes_of(server: &GitServer) -> usize {
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
