//! What it costs to believe a long history: a new host verifies 10,000 admissions from the first, against stock git on
//! the same commits; and a pass that finds nothing new over those, against one over 10.
//!
//! An admission carries two signatures, so two commits are verified by the peer: the author's commit on `main`, and its
//! admission on `admitted`. The latter is signed inside its tree, where git does not look; git gets a copy of the commit
//! that carries a signature in git's own place. All commits of a sample are given to one `git verify-commit`, so that
//! starting git is paid once. What Writ does beyond signatures (every object hashed again, trees compared, scopes,
//! rendering) is in its own figure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use state::digest::Domain;
use state::floor::Floor;
use state::git::Git;
use state::git::fetch::{Fetcher, Request};
use state::verify::{HostIdentity, Stage, Tips, intake, releases};
use tests::host::Host;
use tests::long_log::LongLog;
use tests::program;
use tests::server::GitServer;
use tests::wait;

use crate::cost::{cpu_ms, status_kib};

const LONG: usize = 10_000;
const SHORT: usize = 10;

/// How many admissions the peer verifies; each costs it the same.
const SAMPLE: usize = 200;

/// How many passes each of the two hosts makes while its costs are counted.
const PASSES: usize = 600;

/// How often the memory of the verifying process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The argument by which this program becomes the host that verifies.
pub(crate) const HOST: &str = "verify-host";

/// Prints each ratio beside its limit; fails if one is exceeded.
pub(crate) fn run() -> Result<()> {
    let log = LongLog::new(LONG)?;
    let mut exceeded = Vec::new();
    let mut check = |name: &str, got: f64, holds: bool| {
        if !holds {
            exceeded.push(format!("{name} {got:.2}"));
        }
    };

    let mirror = fetch(&log)?;
    let own = verify(&mirror, log.domain())?;
    let peer = verify_by_git(&log)?;
    let ratio = peer * 1000.0 / own.micros;
    println!(
        "verify: {LONG} admissions from the first: {:.0} µs CPU each, git verify-commit {:.0} µs (two signatures each, \
         {SAMPLE} admissions in one run), ratio {ratio:.1} (at least 50); RssAnon {:.1} MiB (at most 64)",
        own.micros,
        peer * 1000.0,
        own.rss_anon_mib,
    );
    check("ratio to git", ratio, ratio >= 50.0);
    check("RssAnon", own.rss_anon_mib, own.rss_anon_mib < 64.0);

    let (long, short) = passes(&log)?;
    let ratio = long / short;
    println!(
        "verify: a pass that finds nothing new: {long:.3} ms CPU over {LONG} admissions, {short:.3} ms over {SHORT}, \
         ratio {ratio:.2} (at most 1.20; {PASSES} passes each, side by side)"
    );
    check("ratio of passes", ratio, ratio <= 1.2);
    ensure!(exceeded.is_empty(), "exceeded: {}", exceeded.join(", "));
    Ok(())
}

/// Fetches the three branches as an agent does, into a mirror beside the repository.
fn fetch(log: &LongLog) -> Result<PathBuf> {
    let mirror = log.dir().join("mirror.git");
    let request = Request {
        url: format!("file://{}", log.repository().display()),
        token: None,
        ca: None,
        refs: Tips::refs(),
        wanted: None,
        into: mirror.clone(),
        max_bytes: 1 << 30,
        deadline: Duration::from_secs(300),
    };
    Fetcher::default().fetch(&request)?;
    Ok(mirror)
}

/// What verifying cost a new host.
struct Cost {
    /// Microseconds of CPU an admission.
    micros: f64,
    /// The most memory of its own that the process was seen with.
    rss_anon_mib: f64,
}

/// Verifies in a process of its own.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn verify(mirror: &Path, domain: &Domain) -> Result<Cost> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(HOST)
        .arg(mirror)
        .arg(domain.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        peak = peak.max(status_kib(child.id(), "RssAnon:"));
        std::thread::sleep(LOOK);
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "the verifying host: {}",
        output.status
    );
    let millis: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Cost {
        micros: millis as f64 * 1000.0 / LONG as f64,
        rss_anon_mib: peak as f64 / 1024.0,
    })
}

/// The process that verifies: a new host of `prod`, from its enrolment to its releases. Prints its CPU in milliseconds.
pub(crate) fn host(args: &[String]) -> Result<()> {
    let [mirror, domain] = args else {
        anyhow::bail!("usage: {HOST} MIRROR DOMAIN");
    };
    let state = tempfile::tempdir()?;
    let git = Git::open(Path::new(mirror))?;
    let tips = Tips::read(&git, Stage::Incoming)?;
    let identity = HostIdentity {
        environment: "prod".parse()?,
        host: "web-1".parse()?,
        labels: Default::default(),
    };
    let (environment, name) = (identity.environment.clone(), identity.host.clone());
    let mut floor = Floor::enrolled(domain.parse()?, environment, name);
    let file = state.path().join("floor.json");
    let before = cpu_ms("self").0;
    let believed = intake(&git, &tips, &mut floor, Timestamp::now(), &mut |floor| {
        floor.save(&file)
    })?;
    let releases = releases(&git, &believed, &identity, &|_, _, _| false)?;
    let cpu = cpu_ms("self").0 - before;
    ensure!(believed.unjudged().is_none(), "{:?}", believed.unjudged());
    ensure!(
        floor.sequence == LONG as u64,
        "stopped at {}",
        floor.sequence
    );
    ensure!(!releases.is_empty(), "no releases");
    for release in releases.into_values() {
        release?;
    }
    println!("{cpu}");
    Ok(())
}

/// Milliseconds of CPU that git and ssh-keygen need for the signatures of one admission.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn verify_by_git(log: &LongLog) -> Result<f64> {
    let allowed = log.dir().join("allowed");
    let [author, policy] = log.keys();
    std::fs::write(&allowed, format!("author {author}\npolicy {policy}\n"))?;
    let every = log.main.len() / SAMPLE;
    let mut commits = Vec::new();
    for (author, admission) in log.main.iter().zip(&log.admitted).step_by(every) {
        commits.push(author.to_string());
        commits.push(log.signed_twin(admission)?.to_string());
    }
    let option = format!("gpg.ssh.allowedSignersFile={}", allowed.display());
    let before = cpu_ms("self").1;
    let verified = program::run(
        program::command("git", log.dir())
            .current_dir(log.repository())
            .args(["-c", &option, "verify-commit"])
            .args(&commits),
    )
    .ok();
    let after = cpu_ms("self").1;
    let good = verified.stderr.matches("Good \"git\" signature").count();
    ensure!(good == commits.len(), "git verified {good} commits");
    Ok((after - before) as f64 / (commits.len() / 2) as f64)
}

/// Milliseconds of CPU a pass over the long log and over a short one, by two agents at the same time on one https server.
fn passes(log: &LongLog) -> Result<(f64, f64)> {
    let short = LongLog::new(SHORT)?;
    let mut hosts = [Watched::start(log)?, Watched::start(&short)?];
    let begin = [hosts[0].wait(20)?, hosts[1].wait(20)?];
    let mut costs = [0.0; 2];
    for ((host, begin), cost) in hosts.iter_mut().zip(begin).zip(&mut costs) {
        *cost = host.wait(begin.passes + PASSES)?.since(&begin);
    }
    Ok((costs[0], costs[1]))
}

/// An agent that polls a server of its own.
struct Watched {
    server: GitServer,
    host: Host,
}

/// What an agent has done so far.
#[derive(Clone, Copy)]
struct Seen {
    passes: usize,
    cpu_ms: u64,
}

impl Seen {
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn since(&self, before: &Self) -> f64 {
        (self.cpu_ms - before.cpu_ms) as f64 / (self.passes - before.passes) as f64
    }
}

impl Watched {
    /// Enrols a host of `dev`, which runs no service, and starts its agent.
    fn start(log: &LongLog) -> Result<Self> {
        let server = GitServer::start(&log.dir().join("server"), log.dir())?;
        let (ca, token) = (server.ca(), server.token());
        let extra = [
            "--ca",
            ca.to_str().context("a path")?,
            "--token",
            token.to_str().context("a path")?,
            "--poll",
            "50ms",
        ];
        let mut host = Host::enroll(
            log.dir().join("hosts/looks-on"),
            "looks-on",
            &server.url("state.git"),
            &format!("sha256:{}", log.domain()),
            &extra,
        );
        host.start();
        Ok(Self { server, host })
    }

    /// Waits until the agent has made so many passes.
    fn wait(&mut self, passes: usize) -> Result<Seen> {
        let log = self.server.access_log();
        let made = wait::until("passes", Duration::from_secs(300), || {
            let made = crate::poll::passes_of(&self.server);
            (made >= passes).then_some(made)
        });
        ensure!(log.exists(), "the server keeps no log");
        let processes = self.host.processes();
        let costs = processes.iter().map(|pid| cpu_ms(&pid.to_string()).0);
        Ok(Seen {
            passes: made,
            cpu_ms: costs.sum(),
        })
    }
}
