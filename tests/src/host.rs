//! One host: an agent under `--root`, and every process that it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::{self, Outcome, binary};
use crate::wait;

/// A host in a folder of its own; its processes end when the value is dropped.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    daemon: Option<Child>,
}

impl Host {
    /// Enrols a host of `dev`, with short polls and ports of its own.
    pub fn enroll(root: PathBuf, name: &str, url: &str, domain: &str, extra: &[&str]) -> Self {
        std::fs::create_dir_all(&root).expect("the host's folder");
        let host = Self { root, daemon: None };
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
        let needle = self.root.as_os_str().as_encoded_bytes().to_vec();
        let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id())
            .filter(|pid| {
                let read =
                    |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                holds(&read("cmdline")) || holds(&read("environ"))
            })
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        // Shims restart what dies, so ask again until nobody is left; a few rounds are enough.
        for _ in 0..50 {
            let pids = self.processes();
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                if let Some(pid) = i32::try_from(pid)
                    .ok()
                    .and_then(rustix::process::Pid::from_raw)
                {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
