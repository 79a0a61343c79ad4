//! What a swap costs those who call: 10 swaps of the example service under an open-loop load, then the latency that the
//! proxy adds to a direct connection, beside HAProxy before the same process.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::fleet::{Fleet, Service, free_port};
use tests::host::{Host, is_live};
use tests::load::{self, Load, Report};
use tests::wait;

const SWAPS: usize = 10;
const ROUNDS: usize = 5;

/// HAProxy in front of one address; ends with the value.
struct HaProxy {
    child: Child,
    port: u16,
}

impl HaProxy {
    fn start(dir: &Path, backend: &str) -> Result<Self> {
        let port = free_port();
        let config = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  option forwardfor\n\
             frontend in\n  bind 127.0.0.1:{port}\n  default_backend out\n\
             backend out\n  server one {backend}\n"
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, config)?;
        let mut command = Command::new("/usr/sbin/haproxy");
        let child = command
            .arg("-q")
            .arg("-f")
            .arg(file)
            .stdin(Stdio::null())
            .spawn();
        let child = child.context("haproxy (apt-get install haproxy)")?;
        wait::until("HAProxy listens", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Ok(Self { child, port })
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example service, built for release by `tests/bench.sh`.
fn example() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../state-repo-example/sources/web/target/release/web");
    path.canonicalize()
        .context("the example service is not built: run tests/bench.sh")
}

fn load(port: impl std::fmt::Display, rate: u32, requests: u64) -> Result<Load> {
    Ok(Load {
        rate,
        ..Load::post(format!("http://127.0.0.1:{port}/echo").parse()?, requests)
    })
}

/// The address of the slot that has all requests.
fn stable_address(host: &Host) -> Option<String> {
    let text = std::fs::read_to_string(host.root().join("var/lib/writ/routes/web.json")).ok()?;
    let table: Value = serde_json::from_str(&text).ok()?;
    let slots = table["slots"].as_object()?;
    let stable = slots.values().find(|slot| slot["weight"] == 100)?;
    stable["address"]["tcp"].as_str().map(str::to_owned)
}

/// Swaps under load and counts the failures, then compares latencies.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let web = Service {
        program: example()?,
        ..Service::web("web")
    };
    let port = web.port.context("a port")?;
    let fleet = Fleet::new("hosts: any\n", std::slice::from_ref(&web));
    let mut host = fleet.host("bench");
    host.start();
    host.wait_for("the first release is live", "web", is_live);

    let report = runtime.block_on(async {
        let load = tokio::spawn(load::run(load(port, 500, 25_000)?));
        let swaps = tokio::task::block_in_place(|| {
            for number in 0..SWAPS {
                let commit = fleet.release("web", &format!("text swap-{number}\n"));
                host.wait_for("the swap is done", "web", |web| {
                    is_live(web) && web["running"]["source"] == *commit
                });
            }
            !load.is_finished()
        });
        ensure!(swaps, "the load ended before the last swap");
        load.await?
    })?;
    let releases = report.seen.len();
    println!(
        "swap: {} requests over {releases} releases, {} failed (at most 0), p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        report.sent,
        report.failed,
        ms(&report, 50),
        ms(&report, 99),
        ms(&report, 100),
    );
    ensure!(
        report.failed == 0 && releases > SWAPS,
        "{:?}",
        report.failures
    );

    let direct = stable_address(&host).context("the stable slot's address")?;
    let haproxy = HaProxy::start(&fleet.path(""), &direct)?;
    let direct_port = direct.rsplit(':').next().context("a port")?.to_owned();
    let targets = [direct_port, port.to_string(), haproxy.port.to_string()];
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut medians = Vec::new();
        for target in &targets {
            let report = runtime.block_on(load::run(load(target, 500, 2_000)?))?;
            ensure!(report.failed == 0, "{:?}", report.failures);
            medians.push(ms(&report, 50));
        }
        rounds.push(medians);
    }
    let median = |of: &dyn Fn(&Vec<f64>) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "swap: p50 direct {:.3} ms; the proxy adds {:.3} ms (at most 0.300), HAProxy {:.3} ms (medians of {ROUNDS})",
        median(&|round| round[0]),
        median(&|round| round[1] - round[0]),
        median(&|round| round[2] - round[0]),
    );
    Ok(())
}

fn ms(report: &Report, percent: usize) -> f64 {
    report.percentile(percent).as_secs_f64() * 1000.0
}
