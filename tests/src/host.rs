//! One host: an agent under `--root`, and every process that it leaves behind.

use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::leftovers::Leftovers;
use crate::program::{self, Outcome, binary};
use crate::wait;

/// A host in a folder of its own; its processes end when the value is dropped.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    ports: RangeInclusive<u16>,
    disk: Option<SmallDisk>,
    daemon: Option<Child>,
    /// A folder that `PATH` begins with.
    programs: Option<PathBuf>,
    /// The agent, unless it is that of this workspace.
    agent: Option<PathBuf>,
    /// What its environment holds beside the usual.
    variables: Vec<(String, String)>,
    leftovers: Leftovers,
}

/// A file system of bounded size below a host's root, seen only by the processes in its namespace.
#[derive(Debug)]
pub struct SmallDisk {
    root: PathBuf,
    holder: Child,
}

impl SmallDisk {
    /// Mounts it at `root`, in a user and mount namespace that lives as long as the value.
    pub fn new(root: &Path, size: &str) -> Self {
        std::fs::create_dir_all(root).expect("the host's folder");
        let script =
            r#"mount -t tmpfs -o "size=$1" tmpfs "$0" && : > "$0/mounted" && exec sleep 600"#;
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(root)
            .arg(size);
        let holder = command
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare (util-linux)");
        let mounted = format!("/proc/{}/root{}/mounted", holder.id(), root.display());
        wait::until("the small disk is mounted", Duration::from_secs(10), || {
            Path::new(&mounted).exists().then_some(())
        });
        Self {
            root: root.to_owned(),
            holder,
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Host {
    /// Enrols a host of `dev`, with short polls and ports of its own.
    #[track_caller]
    pub fn enroll(root: PathBuf, name: &str, url: &str, domain: &str, extra: &[&str]) -> Self {
        let (host, outcome) = Self::try_enroll(root, name, url, domain, extra);
        outcome.ok();
        host
    }

    /// The same, and the outcome of `agent enroll`.
    pub fn try_enroll(
        root: PathBuf,
        name: &str,
        url: &str,
        domain: &str,
        extra: &[&str],
    ) -> (Self, Outcome) {
        std::fs::create_dir_all(&root).expect("the host's folder");
        let host = Self::new(root, None);
        let outcome = host.run_enroll(name, url, domain, extra);
        (host, outcome)
    }

    /// Enrols a host whose agent is the program at `agent`, with `variables` in its environment.
    #[track_caller]
    pub fn enroll_as(
        agent: &Path,
        variables: &[(&str, &str)],
        root: PathBuf,
        url: &str,
        domain: &str,
    ) -> Self {
        let mut host = Self::new(root, None);
        host.agent = Some(agent.to_owned());
        let variables = variables.iter();
        host.variables = variables
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        host.run_enroll("one", url, domain, &[]).ok();
        host
    }

    /// Enrols a host whose files lie on `disk`.
    #[track_caller]
    pub fn enroll_on(disk: SmallDisk, name: &str, url: &str, domain: &str) -> Self {
        let host = Self::new(disk.root.clone(), Some(disk));
        host.run_enroll(name, url, domain, &[]).ok();
        host
    }

    /// A host that is enrolled nowhere yet.
    pub fn bare(root: PathBuf) -> Self {
        std::fs::create_dir_all(&root).expect("the host's folder");
        Self::new(root, None)
    }

    fn new(root: PathBuf, disk: Option<SmallDisk>) -> Self {
        let first = crate::fleet::free_port().clamp(20_000, 60_000);
        Self {
            leftovers: Leftovers::of(&root),
            root,
            ports: first..=first + 9,
            disk,
            daemon: None,
            programs: None,
            agent: None,
            variables: Vec::new(),
        }
    }

    /// Has the agent find the programs in `folder` before all others.
    pub fn prefer_programs_in(&mut self, folder: PathBuf) {
        self.programs = Some(folder);
    }

    fn run_enroll(&self, name: &str, url: &str, domain: &str, extra: &[&str]) -> Outcome {
        let ports = format!("{}-{}", self.ports.start(), self.ports.end());
        let mut args = vec!["enroll", "--repository", url, "--domain", domain];
        args.extend(["--host", name, "--ports", &ports, "--poll", "200ms"]);
        if !extra.contains(&"--environment") {
            args.extend(["--environment", "dev"]);
        }
        args.extend(extra);
        let outcome = self.agent(&args);
        if outcome.code == 0 && self.disk.is_none() {
            // Tests release faster than people do; those of the limits set their own.
            let text = std::fs::read_to_string(self.config()).expect("agent.yaml");
            let limits = "limits: { cooldown: 0s }";
            std::fs::write(self.config(), format!("{text}{limits}\n")).expect("agent.yaml");
        }
        outcome
    }

    /// The folder that stands for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The ports that the agent may hand out.
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.ports.clone()
    }

    /// The agent's state directory, as this process sees it.
    pub fn state(&self) -> PathBuf {
        let inside = self.root.join("var/lib/writ/agent");
        match &self.disk {
            None => inside,
            Some(disk) => PathBuf::from(format!(
                "/proc/{}/root{}",
                disk.holder.id(),
                inside.display()
            )),
        }
    }

    /// The folder of the services' records and releases.
    pub fn services(&self) -> PathBuf {
        self.state().join("services")
    }

    /// Bytes below the services' folder.
    pub fn size_of_services(&self) -> u64 {
        fn size(path: &Path) -> u64 {
            match std::fs::symlink_metadata(path) {
                Ok(data) if data.is_dir() => std::fs::read_dir(path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| size(&entry.path()))
                    .sum(),
                Ok(data) => data.len(),
                Err(_) => 0,
            }
        }
        size(&self.services())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.disk {
            None => {
                let agent = self.agent.clone().unwrap_or_else(|| binary("agent"));
                program::command(agent, &self.root)
            }
            Some(disk) => {
                let mut command = program::command("nsenter", &self.root);
                command.args(["--preserve-credentials", "--user", "--mount", "--target"]);
                command
                    .arg(disk.holder.id().to_string())
                    .arg(binary("agent"));
                command
            }
        };
        if let Some(folder) = &self.programs {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", folder.display()));
        }
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.envs(variables);
        command.arg("--root").arg(&self.root).args(args);
        command
    }

    /// The agent's settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("etc/writ/agent.yaml")
    }

    /// Changes one of the agent's settings; counts once the agent is started anew.
    pub fn configure(&self, key: &str, value: Value) {
        let text = std::fs::read_to_string(self.config()).expect("agent.yaml");
        let mut config: Value = serde_yaml::from_str(&text).expect("agent.yaml is YAML");
        config[key] = value;
        std::fs::write(self.config(), config.to_string()).expect("JSON is YAML");
    }

    /// Runs an `agent` command to its end.
    pub fn agent(&self, args: &[&str]) -> Outcome {
        program::run(&mut self.command(args))
    }

    /// Starts an `agent` command whose output goes to the file `output`.
    pub fn spawn(&self, args: &[&str], output: &Path) -> Child {
        let output = std::fs::File::create(output).expect("the output's file");
        let mut command = self.command(args);
        command.stdout(output).spawn().expect("agent")
    }

    /// Starts `agent run`; its log goes to a file beside the root.
    pub fn start(&mut self) {
        self.start_as(self.command(&["run"]));
    }

    /// Starts `agent run` after `change`.
    pub fn start_with(&mut self, change: impl FnOnce(&mut Command)) {
        let mut command = self.command(&["run"]);
        change(&mut command);
        self.start_as(command);
    }

    /// Runs an `agent` command as another account.
    pub fn agent_as(&self, user: u32, group: u32, args: &[&str]) -> Outcome {
        program::run(self.command(args).uid(user).gid(group))
    }

    /// Starts `agent run` with a wall clock that is off by `offset`, such as `-1d`.
    pub fn start_with_clock(&mut self, offset: &str) {
        // `faketime` would stay in between, and be killed in the agent's place; so it only says what it sets.
        let mut env = program::command("faketime", &self.root);
        let env = program::run(env.args(["-f", offset, "env"])).ok().stdout;
        let preload = env
            .lines()
            .find_map(|line| line.strip_prefix("LD_PRELOAD="));
        let mut command = self.command(&["run"]);
        command
            .env("LD_PRELOAD", preload.expect("what faketime sets"))
            .env("FAKETIME", offset)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        self.start_as(command);
    }

    fn start_as(&mut self, mut command: Command) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("log");
        command
            .stdout(Stdio::null())
            .stderr(log)
            .env("RUST_LOG", "info");
        self.daemon = Some(command.spawn().expect("agent run"));
    }

    /// The process id of `agent run`, if it was started.
    pub fn daemon(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Kills the daemon with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Sends the daemon `signal`, and waits for its end.
    pub fn end(&mut self, signal: Signal) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = pid(daemon.id()).expect("the agent's process id");
            rustix::process::kill_process(pid, signal).expect("end the agent");
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
        Self::service_of(&self.status(), service)
    }

    fn service_of(status: &Value, service: &str) -> Value {
        let all = status["services"].as_array();
        all.and_then(|all| all.iter().find(|one| one["name"] == service))
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// Waits until `service` satisfies `condition`; fails with what was seen last and the end of the log.
    #[track_caller]
    pub fn wait_for(&self, what: &str, service: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let within = Duration::from_secs(60);
        let deadline = Instant::now() + within;
        wait::until(what, within * 2, || {
            let outcome = self.agent(&["status", "--json"]);
            // What an earlier agent wrote last says nothing about one that is about to answer.
            let is_old = outcome.code == 3 && self.daemon.is_some();
            let status = serde_json::from_str(&outcome.stdout).unwrap_or(Value::Null);
            let last = if is_old {
                Value::Null
            } else {
                Self::service_of(&status, service)
            };
            if condition(&last) {
                return Some(last);
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not within {within:?}\n{last:#}\n{}",
                self.log()
            );
            None
        })
    }

    /// Where the agent's log is.
    pub fn log_path(&self) -> PathBuf {
        self.root.with_extension("log")
    }

    /// The end of the agent's log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The ids of all living processes that belong to this host.
    pub fn processes(&self) -> Vec<u32> {
        let holder = self.disk.as_ref().map(|disk| disk.holder.id());
        let mut processes = self.leftovers.processes();
        processes.retain(|pid| Some(*pid) != holder);
        processes
    }

    /// Those of them whose program is called `name`.
    pub fn processes_named(&self, name: &str) -> Vec<Pid> {
        let is_named = |pid: &u32| {
            let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            exe.file_name().is_some_and(|file| file == name)
        };
        self.processes()
            .into_iter()
            .filter(is_named)
            .filter_map(pid)
            .collect()
    }
}

fn pid(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().and_then(Pid::from_raw)
}

/// Says whether a service of the status is deployed, through its bake, and well.
pub fn is_live(service: &Value) -> bool {
    service["phase"] == "live"
}

/// The code for which the newest release of a service of the status is held.
pub fn hold_code(service: &Value) -> Option<&str> {
    service["held"]["code"].as_str()
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}
