//! Several `policy run` on one repository, and what its log says of who was admitted how often.

use std::fs::File;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use state::digest::Sha256Hash;

use crate::fleet::Fleet;
use crate::program::{self, binary};
use crate::wait;

/// `policy run`; killed when the value is dropped.
#[derive(Debug)]
pub struct PolicyServer {
    child: Child,
    log: PathBuf,
}

impl PolicyServer {
    /// Starts it on the repository of a fleet of [`fleet`], with a key that the hooks cannot read, and waits until it
    /// watches.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(fleet: &Fleet) -> Result<Self> {
        Self::start_with(fleet, "keys/elsewhere")
    }

    /// The same, with another key that is listed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_with(fleet: &Fleet, key: &str) -> Result<Self> {
        Self::start_on(fleet, "state.git", key)
    }

    /// Starts it on the repository or mirror `name`, and waits until it watches.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_on(fleet: &Fleet, name: &str, key: &str) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let path = fleet.path(format!("policy-{number}.log"));
        let log = File::create(&path)?;
        let mut run = program::command(binary("policy"), &fleet.path(""));
        run.args(["run", name, "--key", key])
            .current_dir(fleet.path(""))
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut server = Self {
            child: run.spawn()?,
            log: path,
        };
        wait::until("policy run serves", Duration::from_secs(60), || {
            let ended = server.child.try_wait().ok().flatten();
            (ended.is_some() || server.log().contains("serving ")).then_some(())
        });
        let log = server.log();
        ensure!(log.starts_with("serving "), "policy run says '{log}'");
        Ok(server)
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it at once, whatever it is doing.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "it ended by itself: {ended:?}");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends `signal` and returns the exit code.
    ///
    /// # Errors
    /// When the signal cannot be sent, or ends it without a code.
    pub fn end(mut self, signal: Signal) -> Result<i32> {
        kill_process(Pid::from_child(&self.child), signal)?;
        let ended = wait::until("policy run ends", Duration::from_secs(60), || {
            self.child.try_wait().transpose()
        })?;
        ended.code().context("it was ended by the signal")
    }
}

impl Drop for PolicyServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A fleet of `count` services, all admitted; from then on its hooks cannot read the policy key.
pub fn fleet(count: usize) -> Fleet {
    let fleet = Fleet::new("hosts: any\n", &[]);
    fill(&fleet, count);
    let key = ["keys/policy", "keys/elsewhere"].map(|path| fleet.path(path));
    std::fs::rename(&key[0], &key[1]).expect("the key");
    fleet
}

/// A fleet of `count` services on a forge, all admitted; each of `servers` policy servers has the mirror
/// `mirror-NUMBER.git`, which is asked each second, and a key of its own, `keys/policy-NUMBER`.
pub fn hosted_fleet(count: usize, servers: usize) -> Fleet {
    let fleet = Fleet::hosted("hosts: any\n", &[]);
    fill(&fleet, count);
    fleet.mirror("mirror.git", "keys/policy").ok();
    list_keys(&fleet, servers);
    for number in 0..servers {
        let mirror = format!("mirror-{number}.git");
        fleet.mirror(&mirror, &format!("keys/policy-{number}")).ok();
        set(&fleet, &mirror, "poll: 1s\n");
    }
    fleet
}

/// Adds `settings` to those of a mirror.
pub fn set(fleet: &Fleet, mirror: &str, settings: &str) {
    let path = fleet.path(mirror).join("writ/policy.yaml");
    let text = std::fs::read_to_string(&path).expect("its settings");
    std::fs::write(path, text + settings).expect("its settings");
}

/// Publishes trust version 2, which lists a policy key for each of `servers` servers.
fn list_keys(fleet: &Fleet, servers: usize) {
    let public = |name: &str| {
        let line = std::fs::read_to_string(fleet.path(format!("keys/{name}.pub"))).expect("a key");
        let words: Vec<_> = line.split(' ').take(2).collect();
        format!("\"{}\"", words.join(" "))
    };
    let mut keys = public("policy");
    for number in 0..servers {
        let name = format!("policy-{number}");
        let path = fleet.path(format!("keys/{name}"));
        fleet.policy(&["keygen", &path.display().to_string()]).ok();
        keys = format!("{keys}, {}", public(&name));
    }
    let first = fleet.in_state(&["show", "trust:1.yaml"]).ok().stdout;
    let prev = Sha256Hash::of(first.as_bytes());
    let version = format!("version: 2\nprev: sha256:{prev}\n");
    let second = first
        .replace("version: 1\n", &version)
        .replace(&public("policy"), &keys);
    fleet.in_state(&["switch", "-q", "trust"]).ok();
    fleet.write("2.yaml", &second);
    let sign = ["trust", "sign", "state/2.yaml", "--key", "keys/root"];
    fleet.policy(&sign).ok();
    fleet.commit("Trust version 2").ok();
    fleet.in_state(&["push", "-q", "origin", "trust"]).ok();
    fleet.in_state(&["switch", "-q", "main"]).ok();
}

/// Adds `count` services.
fn fill(fleet: &Fleet, count: usize) {
    for number in 0..count {
        let name = service(number);
        fleet.write(
            &format!("services/{name}/service.yaml"),
            &format!(
                "source: {{ repository: \"https://git.example.org/{name}.git\", branch: main }}\n\
                 run: {{ command: [ ./{name} ] }}\n"
            ),
        );
        fleet.write(&overlay(number), &pinned_to(&pin("first", number)));
    }
    fleet.commit("Add the services").ok();
    fleet.push().ok();
}

/// The name of the service `number`.
pub fn service(number: usize) -> String {
    format!("service-{number}")
}

/// The overlay of the service `number`.
pub fn overlay(number: usize) -> String {
    format!("environments/dev/{}.yaml", service(number))
}

/// The text of an overlay.
pub fn pinned_to(pin: &str) -> String {
    format!("source: {{ commit: \"{pin}\" }}\n")
}

/// A source commit's id that nobody else uses.
pub fn pin(who: &str, number: usize) -> String {
    Sha256Hash::of(format!("{who} {number}").as_bytes()).to_string()[..40].to_owned()
}

/// How many admissions brought each of `pins` into a release, by stock git; and how many changes `policy log` counts,
/// which has verified all of them.
///
/// # Errors
/// When the log does not verify.
pub fn admissions(fleet: &Fleet, pins: &[String]) -> Result<(Vec<usize>, usize)> {
    let mut git = program::command("git", &fleet.path(""));
    git.args(["log", "-p", "--first-parent", "--diff-merges=first-parent"])
        .args(["--format=", "admitted", "--", "releases"])
        .current_dir(fleet.path("state.git"));
    let history = program::run(&mut git);
    ensure!(history.code == 0, "git log: {}", history.stderr);
    let added: Vec<&str> = history
        .stdout
        .lines()
        .filter(|line| line.starts_with('+'))
        .collect();
    let count = |pin: &String| added.iter().filter(|line| line.contains(pin)).count();
    let log = fleet.policy(&["log", "--json", "state.git"]);
    ensure!(log.code == 0, "policy log: {}", log.stderr);
    let log: serde_json::Value = serde_json::from_str(&log.stdout)?;
    let changes = log.as_array().context("admissions")?.iter();
    let changes = changes.filter_map(|one| one["changes"].as_array().map(Vec::len));
    Ok((pins.iter().map(count).collect(), changes.sum()))
}
