//! One host on its way through versions: a release that failed is held, an operator went back from another, and a third
//! is being deployed under load whenever the agent is replaced.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::load::{self, Load, Report};
use tests::wait;

use crate::site::{contents, install, json, marks};

const RULES: &str = "hosts: any\n";
const SERVICES: [&str; 3] = ["failed", "moved", "web"];
const SOON: Duration = Duration::from_secs(30);

/// A version of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one before this.
    Previous,
    /// This one.
    Now,
    /// One that does not exist yet.
    Future,
}

/// What is new in the future version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Fields and codes: this version works with them, and keeps them.
    Fields,
    /// Every format: this version leaves alone what has one.
    Formats,
}

/// Which versions meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Of the agent, at first.
    pub(crate) agent: Version,
    /// Of the shims of what runs.
    pub(crate) shim: Version,
    /// Of the proxy.
    pub(crate) proxy: Version,
    /// What is new.
    pub(crate) mode: Mode,
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            agent,
            shim,
            proxy,
            mode,
        } = self;
        let text = format!("agent {agent:?}, shims {shim:?}, proxy {proxy:?}; new: {mode:?}");
        f.write_str(&text.to_lowercase())
    }
}

/// A host under way.
pub(crate) struct Journey {
    mix: Mix,
    fleet: Fleet,
    host: Host,
    agent: PathBuf,
    /// The agent that runs.
    running: Version,
    /// The commit of `web` that is being deployed.
    pending: String,
    releases: usize,
    lost: Vec<String>,
}

/// What must not be forgotten, by service and JSON pointer.
type Memory = BTreeMap<(&'static str, String), Value>;

impl Journey {
    /// Enrols a host by the version of the shims, so that they are what runs when the agent is replaced.
    pub(crate) fn new(mix: Mix) -> Self {
        let fleet = Fleet::new(RULES, &[]);
        let root = fleet.path("hosts/one");
        let agent = root.join("bin/agent");
        // An agent that starts shims of a newer version does so because its own file was replaced.
        let newer_shims = (mix.agent, mix.shim) == (Version::Now, Version::Future);
        let running = if newer_shims { mix.agent } else { mix.shim };
        install(&running.program(), &agent);
        let url = format!("file://{}", fleet.path("state.git").display());
        let mode = format!("{:?}", mix.mode).to_lowercase();
        let variables = [("WRIT_FUTURE", mode.as_str()), ("RUST_LOG", "error")];
        let mut host = Host::enroll_as(&agent, &variables, root, &url, &fleet.domain());
        install(&mix.proxy.program(), &agent);
        let log = host.root().join("proxy.out");
        host.spawn(&["proxy", "--detach"], &log);
        let socket = host.root().join("run/writ/proxy.sock");
        wait::until("the proxy listens", SOON, || socket.exists().then_some(()));
        install(&running.program(), &agent);
        host.start();
        let journey = Self {
            mix,
            fleet,
            host,
            agent,
            running,
            pending: String::new(),
            releases: 1,
            lost: Vec::new(),
        };
        journey.wait_for_agent();
        install(&mix.shim.program(), &journey.agent);
        journey
    }

    /// Goes from version to version and returns what was forgotten on the way.
    pub(crate) fn travel(mut self) -> Vec<String> {
        let (load, stop) = self.settle();
        if self.running != self.mix.agent {
            self.replace_agent(self.mix.agent);
            self.host.wait_for("web is live still", "web", is_live);
        }
        let processes = self.processes();
        let there_and_back = match self.mix.agent {
            Version::Previous => vec![Version::Now],
            Version::Now => vec![Version::Future, Version::Now, Version::Future],
            Version::Future => vec![Version::Now, Version::Future, Version::Now],
        };
        self.release();
        for next in there_and_back {
            if self.stands_still_under(next) {
                self.stand_still(next);
            } else {
                self.go_on(next);
            }
            if self.processes() != processes {
                let what = format!("processes: {processes:?}, then {:?}", self.processes());
                self.lost.push(what);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let report = load.join().unwrap();
        if report.failed > 0 {
            self.lost
                .push(format!("{} requests: {:?}", report.failed, report.failures));
        }
        assert!(report.ok > 0, "there was a load");
        self.lost
    }

    /// Brings the three services to where they are to stay, and begins the load.
    fn settle(&self) -> (JoinHandle<Report>, Arc<AtomicBool>) {
        let mut web = Service::web("web");
        web.strategy = "{ blueGreen: { bake: 4s } }";
        let mut quick = [Service::web("failed"), Service::web("moved")];
        for service in &mut quick {
            service.strategy = "{ blueGreen: { bake: 300ms } }";
        }
        let [failed, moved] = quick;
        for service in [&failed, &moved, &web] {
            self.fleet.add(service);
        }
        self.fleet.commit("Add the services").ok();
        self.fleet.push().ok();
        for name in SERVICES {
            self.host.wait_for("v1 is live", name, is_live);
        }
        self.fleet.release("failed", "exit-now\n");
        let commit = self.fleet.release("moved", "text v2\n");
        self.host.wait_for("v2 is live", "moved", |service| {
            is_live(service) && service["running"]["source"] == commit.as_str()
        });
        self.host.agent(&["rollback", "moved"]).ok();
        self.host.wait_for("v1 runs again", "moved", |service| {
            is_live(service) && service["running"]["source"] != commit.as_str()
        });
        self.host.wait_for("v2 is held", "failed", |service| {
            hold_code(service).is_some() && is_live(service)
        });
        let port = web.port.unwrap();
        let mut load = Load::post(
            format!("http://127.0.0.1:{port}/").parse().unwrap(),
            1_000_000,
        );
        (load.connections, load.rate, load.method) = (4, 100, Method::GET);
        let stop = load.stop.clone();
        let runtime = || tokio::runtime::Runtime::new().unwrap();
        let thread = std::thread::spawn(move || runtime().block_on(load::run(load)).unwrap());
        (thread, stop)
    }

    /// Begins to deploy another release of `web` and waits until it is in mid-deployment.
    fn release(&mut self) {
        self.releases += 1;
        let text = format!("text v{}\n", self.releases);
        self.pending = self.fleet.release("web", &text);
        let commit = self.pending.clone();
        self.host.wait_for("the release bakes", "web", |web| {
            web["phase"] == "baking" && web["deployment"]["source"] == commit.as_str()
        });
    }

    fn replace_agent(&mut self, next: Version) {
        self.host.kill();
        install(&next.program(), &self.agent);
        self.host.start();
        self.running = next;
        self.wait_for_agent();
    }

    fn wait_for_agent(&self) {
        let socket = self.host.root().join("run/writ/agent.sock");
        wait::until("the agent listens", SOON, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// Says whether `next` finds what only the agent that runs now can read.
    fn stands_still_under(&self, next: Version) -> bool {
        (self.mix.mode, self.running, next) == (Mode::Formats, Version::Future, Version::Now)
    }

    /// An older agent: nothing of what it cannot read is touched, and it says so.
    fn stand_still(&mut self, next: Version) {
        let state = self.host.state();
        self.host.kill();
        // What the newer agent never wrote, this one goes on working with.
        let mut newer = SERVICES.to_vec();
        newer.retain(|name| self.record(name)["format"] == 2);
        assert!(newer.contains(&"web"), "it is being deployed");
        let before = contents(&state, &newer);
        self.replace_agent(next);
        for name in &newer {
            self.host.wait_for("it is left alone", name, |service| {
                hold_code(service) == Some("STATE_NEWER")
            });
        }
        wait::until("the pass is refused", SOON, || {
            (self.host.status()["pass"]["refused"]["code"] == "STATE_NEWER").then_some(())
        });
        earn_here("STATE_NEWER");
        self.host.agent(&["resume", "web"]).refused("STATE_NEWER");
        let after = contents(&state, &newer);
        for (path, bytes) in &before {
            if after.get(path) != Some(bytes) {
                self.lost.push(format!("{} was changed", path.display()));
            }
        }
        if after.len() != before.len() {
            self.lost.push(format!("files: {:?}", after.keys()));
        }
    }

    /// An agent that understands all: it ends the deployment, remembers everything, and begins the next.
    fn go_on(&mut self, next: Version) {
        let before = self.memory();
        self.replace_agent(next);
        let commit = self.pending.clone();
        self.host.wait_for("the release is live", "web", |web| {
            is_live(web) && web["running"]["source"] == commit.as_str()
        });
        // Has its record written anew, with all that this version does not know.
        for decision in ["hold", "resume"] {
            self.host.agent(&[decision, "failed"]).ok();
        }
        self.host.wait_for("v2 is held still", "failed", |service| {
            service["held"]["kind"] == "failed" && is_live(service)
        });
        let after = self.memory();
        for ((service, what), value) in before {
            if after.get(&(service, what.clone())) != Some(&value) {
                let now = after.get(&(service, what.clone()));
                self.lost.push(format!(
                    "{next:?} forgot {service} {what}: {value}, now {now:?}"
                ));
            }
        }
        self.release();
    }

    fn record(&self, service: &str) -> Value {
        json(&self.host.services().join(service).join("record.json"))
    }

    fn memory(&self) -> Memory {
        let mut memory = Memory::new();
        for service in SERVICES {
            let record = self.record(service);
            for verified in record["verified"].as_array().into_iter().flatten() {
                let id = format!("verified {}", verified["release"]);
                memory.insert((service, id), verified["origin"].clone());
            }
            if service == "web" {
                continue; // it is deployed meanwhile
            }
            for what in [
                "/failed/release",
                "/lastGood/release",
                "/lastGood/number",
                "/manual/kind",
            ]
            .into_iter()
            .chain([
                "/manual/from",
                "/manual/to/release",
                "/previousGood/release",
            ]) {
                if let Some(value) = record.pointer(what) {
                    memory.insert((service, what.to_owned()), value.clone());
                }
            }
            if self.mix.mode == Mode::Fields {
                for mark in marks(&record) {
                    memory.insert((service, mark), Value::Null);
                }
            }
        }
        memory
    }

    /// The processes that nobody may end: those of the services that nothing is deployed of, and the proxy.
    fn processes(&self) -> Vec<u32> {
        let mut processes = self.host.processes();
        processes.retain(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("proxy\0--detach")
        });
        assert_eq!(processes.len(), 1, "there is one proxy");
        for service in ["failed", "moved"] {
            let record = self.record(service);
            for slot in record["slots"].as_object().into_iter().flatten() {
                let state = format!("{service}/slots/{}/state.json", slot.0);
                let state = json(&self.host.services().join(state));
                let pid = state["process"]["pid"].as_u64().unwrap();
                processes.push(u32::try_from(pid).unwrap());
            }
        }
        processes.sort_unstable();
        processes
    }
}
