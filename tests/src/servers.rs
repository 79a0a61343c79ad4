//! Several `policy run` on one repository, and what its log says of who was admitted how often.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use state::digest::Sha256Hash;

use crate::fleet::Fleet;
use crate::program::{self, binary};
use crate::wait;

/// `policy run` with a key that the hooks cannot read; killed when the value is dropped.
#[derive(Debug)]
pub struct PolicyServer {
    child: Child,
    /// Read by nobody after its first line, and kept open for the rest.
    _stdout: BufReader<ChildStdout>,
}

impl PolicyServer {
    /// Starts it on the repository of a fleet of [`fleet`], and waits until it watches.
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
        let mut run = program::command(binary("policy"), &fleet.path(""));
        run.args(["run", "state.git", "--key", key])
            .current_dir(fleet.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = run.spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let server = Self {
            child,
            _stdout: stdout,
        };
        ensure!(line.starts_with("serving "), "policy run says '{line}'");
        Ok(server)
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
    let key = ["keys/policy", "keys/elsewhere"].map(|path| fleet.path(path));
    std::fs::rename(&key[0], &key[1]).expect("the key");
    fleet
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
