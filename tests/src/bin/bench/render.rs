//! What judging a large fleet costs: 1,000 services in 4 environments, rendered and judged, against parsing the same
//! files with the YAML library alone.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use policy::evidence::Evidence;
use policy::history::History;
use policy::judge::judge;
use state::digest::{ObjectId, PayloadHash};
use state::release::Origin;
use state::render::{self, Rendered};
use state::tree::Files;

const SERVICES: usize = 1_000;
const ENVIRONMENTS: [&str; 4] = ["canary", "dev", "prod", "staging"];

/// Every service with a base of the usual size, and an overlay in every environment; `pin` is a hex digit.
fn fleet(pin: char) -> Files {
    let mut files = Files::default();
    let mut add = |path: String, text: String| {
        files.insert(path, text.into_bytes().into());
    };
    add(
        "repository.yaml".into(),
        format!("format: 1\nname: bench\ndomain: \"{}\"\n", "0".repeat(64)),
    );
    let pin = pin.to_string().repeat(40);
    for environment in ENVIRONMENTS {
        add(
            format!("environments/{environment}/environment.yaml"),
            "hosts: any\ndefaults: { keep: 3 }\n".into(),
        );
    }
    for number in 0..SERVICES {
        let name = format!("service-{number}");
        let mut base = format!(
            "source: {{ repository: \"https://git.example.org/{name}.git\", branch: main }}\n\
             build:\n  steps: [ {{ run: [cargo, build, --release, --locked, --offline] }} ]\n  \
               output: [ target/release/{name} ]\n  cache: [ target ]\n\
             run:\n  command: [ ./{name} ]\n  environment: {{ RUST_LOG: info, MODE: \"{number}\" }}\n"
        );
        let _ = write!(
            base,
            "health:\n  startup: {{ http: /ready, within: 60s }}\n  ready: {{ http: /ready }}\n\
             traffic: {{ listen: \"127.0.0.1:{}\", drain: 30s }}\nstrategy: {{ blueGreen: {{ bake: 10m }} }}\n",
            10_000 + number
        );
        add(format!("services/{name}/service.yaml"), base);
        for environment in ENVIRONMENTS {
            let overlay = format!(
                "source: {{ commit: \"{pin}\" }}\nrun: {{ environment: {{ STAGE: {environment} }} }}\n"
            );
            add(format!("environments/{environment}/{name}.yaml"), overlay);
        }
    }
    files
}

fn rendered(files: &Files) -> Result<Rendered> {
    let origin = Origin {
        commit: ObjectId([1; 20]),
        payload: PayloadHash([2; 32]),
    };
    render::all(files, &origin).map_err(|refusals| anyhow!("{:?}", refusals.first()))
}

/// The peer: the YAML library reads each file into its own value, and nothing is made of it.
fn parse_all(files: &Files) -> Result<usize> {
    let mut read = 0;
    for bytes in files.values() {
        let value: serde_yaml::Value = serde_yaml::from_slice(bytes)?;
        read += usize::from(value.is_mapping());
    }
    Ok(read)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}

/// Prints services a second, the ratio to the peer, and the peak of memory.
pub(crate) fn run() -> Result<()> {
    let (old, new) = (fleet('a'), fleet('b'));
    let admitted = rendered(&old)?;
    let mut ratios = Vec::new();
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let (verdicts, own) = timed(|| {
            let wanted = rendered(&new)?;
            Ok(judge(
                &admitted,
                &wanted,
                &Evidence::default(),
                &History::default(),
                Timestamp::UNIX_EPOCH,
            ))
        })?;
        anyhow::ensure!(
            verdicts.len() == SERVICES * ENVIRONMENTS.len(),
            "{} verdicts",
            verdicts.len()
        );
        let (_, peer) = timed(|| parse_all(&new))?;
        ratios.push(own.as_secs_f64() / peer.as_secs_f64());
        fastest = fastest.min(own);
    }
    ratios.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default()
        .trim();
    let releases = (SERVICES * ENVIRONMENTS.len()) as f64;
    println!(
        "render: {} releases rendered and judged in {:.0} ms ({:.0} a second), {:.1} times the YAML library alone \
         (median of 5), peak memory {peak}",
        releases,
        fastest.as_secs_f64() * 1000.0,
        releases / fastest.as_secs_f64(),
        ratios[ratios.len() / 2],
    );
    Ok(())
}
