//! One host: an agent under `--root`, and every process that it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::leftovers::Leftovers;
use crate::program::{self, Outcome, binary};
use crate::wait;

/// A host in a folder of its own; its processes end when the value is dropped.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    daemon: Option<Child>,
    leftovers: Leftovers,
}

impl Host {
    /// Enrols a host of `dev`, with short polls and ports of its own.
    pub fn enroll(root: PathBuf, name: &str, url: &str, domain: &str, extra: &[&str]) -> Self {
        std::fs::create_dir_all(&root).expect("the host's folder");
        let leftovers = Leftovers::of(&root);
        let host = Self {
            root,
            daemon: None,
            leftovers,
        };
        let first = crate::fleet::free_port().clamp(20_000, 60_000);
        let ports = format!("{first}-{}", first + 200);
        let mut args = vec![
            "enroll",
            "--repository",
            url,
            "--domain",
            domain,
            "--environment",
            "dev",
            "--host",
            name,
        ];
        args.extend(["--ports", &ports, "--poll", "1s"]);
        args.extend(extra);
        host.agent(&args).ok();
        host
    }

    /// The folder that stands for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program::command(binary("agent"), &self.root);
        command.arg("--root").arg(&self.root).args(args);
        command
    }

    /// Runs an `agent` command to its end.
    pub fn agent(&self, args: &[&str]) -> Outcome {
        program::run(&mut self.command(args))
    }

    /// Starts `agent run`; its log goes to `agent.log` in the root.
    pub fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join("agent.log"))
            .expect("log");
        let mut command = self.command(&["run"]);
        command
            .stdout(Stdio::null())
            .stderr(log)
            .env("RUST_LOG", "info");
        self.daemon = Some(command.spawn().expect("agent run"));
    }

    /// Kills the daemon with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("kill the agent");
            daemon.wait().expect("reap the agent");
        }
    }

    /// What `agent status --json` says.
    pub fn status(&self) -> Value {
        let outcome = self.agent(&["status", "--json"]);
        serde_json::from_str(&outcome.stdout).unwrap_or(Value::Null)
    }

    /// The part of the status that is about `service`.
    pub fn service(&self, service: &str) -> Value {
        let status = self.status();
        let found = status["services"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == service));
        found.cloned().unwrap_or(Value::Null)
    }

    /// Waits until `service` satisfies `condition`; fails with the whole status and the end of the log.
    #[track_caller]
    pub fn wait_for(&self, what: &str, service: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        wait::until(what, Duration::from_secs(70), || {
            last = self.service(service);
            if condition(&last) {
                return Some(last.clone());
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{what}: {last:#}\n{}",
                self.log()
            );
            None
        })
    }

    /// The end of the agent's log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.root.join("agent.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The ids of all living processes that belong to this host.
    pub fn processes(&self) -> Vec<u32> {
        self.leftovers.processes()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}
