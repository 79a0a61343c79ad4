//! What the embedded proxy costs, beside HAProxy before the same server: latency it adds and processor time at the same
//! offered rate, what it can do at most, a burst of connections, and idle ones.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cost::status_kib;
use crate::hammer::{self, Outcome};
use crate::peer::Peer;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 64;
/// Requests a second that are offered, or half of what the slower one can do if that is less.
const RATE: f64 = 20_000.0;
const BURST: usize = 1_000;
const IDLE: usize = 4_000;

/// One target at the offered rate.
struct Round {
    p50: f64,
    p99: f64,
    /// Microseconds of processor time for a request.
    cpu: f64,
}

pub(crate) fn run() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    let dir = tempfile::tempdir()?;
    let text = format!("return 200 {};", "x".repeat(1024));
    let server = Peer::nginx(dir.path(), "server", &text)?;
    let proxy = Peer::proxy(dir.path(), server.port)?;
    let haproxy = Peer::haproxy(dir.path(), server.port)?;

    let mut most = [0.0_f64; 2];
    for _ in 0..3 {
        for (most, target) in most.iter_mut().zip([&proxy, &haproxy]) {
            *most = most.max(load(target, None)?.rate());
        }
    }
    let rate = RATE.min(most[0].min(most[1]) / 2.0).floor();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for target in [&server, &proxy, &haproxy] {
            let before = target.cpu_ms();
            let outcome = load(target, Some(rate))?;
            let cpu = (target.cpu_ms() - before) as f64 * 1000.0;
            round.push(Round {
                p50: outcome.ms(50),
                p99: outcome.ms(99),
                cpu: cpu / outcome.answers as f64,
            });
        }
        rounds.push(round);
    }
    // The machine may be shared, and noise only adds: what each can do is its best round.
    let best = |of: &dyn Fn(&Round) -> f64| -> [f64; 3] {
        [0, 1, 2].map(|target| {
            let values = rounds.iter().map(|round| of(&round[target]));
            values.fold(f64::INFINITY, f64::min)
        })
    };
    let (p50, p99, cpu) = (
        best(&|one| one.p50),
        best(&|one| one.p99),
        best(&|one| one.cpu),
    );
    let ratio = cpu[1] / cpu[2];
    println!(
        "proxy: at {rate} requests a second the proxy adds p50 {:.3} ms, p99 {:.3} ms (at most HAProxy's {:.3} and {:.3}; direct {:.3} and {:.3}; best of {ROUNDS})",
        p50[1] - p50[0],
        p99[1] - p99[0],
        p50[2] - p50[0],
        p99[2] - p99[0],
        p50[0],
        p99[0],
    );
    println!(
        "proxy: {:.1} µs of processor time a request, HAProxy {:.1}: {ratio:.2} × (at most 1.10)",
        cpu[1], cpu[2],
    );
    println!(
        "proxy: {:.0} requests a second at most, HAProxy {:.0}: {:.2} ×",
        most[0],
        most[1],
        most[0] / most[1],
    );

    let times = hammer::burst(proxy.port, BURST)?;
    let late = times.iter().filter(|time| time.as_millis() > 200).count();
    println!(
        "proxy: {BURST} connections at once, {late} over 0.2 s (at most 0), the last after {:.3} s",
        times[BURST - 1].as_secs_f64(),
    );
    let before = status_kib(proxy.pid(), "RssAnon:");
    let idle = hammer::idle(proxy.port, IDLE)?;
    let grown = status_kib(proxy.pid(), "RssAnon:").saturating_sub(before);
    let each = grown as f64 / IDLE as f64;
    println!("proxy: {each:.1} KiB for an idle connection (at most 16), of {IDLE}");
    drop(idle);

    ensure!(
        p50[1] <= p50[2] && p99[1] <= p99[2],
        "it adds more than HAProxy"
    );
    ensure!(ratio <= 1.1, "it takes more processor time than HAProxy");
    ensure!(late == 0, "connections come late");
    ensure!(each <= 16.0, "idle connections are too large");
    Ok(())
}

fn load(target: &Peer, rate: Option<f64>) -> Result<Outcome> {
    hammer::run(target.port, &["/".to_owned()], CONNECTIONS, rate, TIME)
}
