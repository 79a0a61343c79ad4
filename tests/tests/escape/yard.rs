//! One host that root's agent runs, with a service in an attacker's hands and one that minds its own business.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::program::binary;

use crate::attackers::{LOOKERS, ask};

/// What nobody but root, or the service that it belongs to, may learn.
pub(crate) const SECRET: &str = "the-secret-of-this-host";

/// How long a deployment takes at most, unless it was made to hang.
pub(crate) const SOON: Duration = Duration::from_secs(25);

/// The files in the source's folder `big`.
const FILES: u32 = 2000;

/// What services are handed over; the last two are so large that root takes its time to copy them.
const CREDENTIALS: [&str; 3] = ["token", "bulk-1", "bulk-2"];

/// How the agent may be told which accounts services have: by version, the newest first.
const ACCOUNTS: [[&str; 2]; 2] = [["--users", "70000-70099"], ["--user", "daemon"]];

pub(crate) struct Yard {
    pub(crate) host: Host,
    /// What builds find programs in, and everybody may enter; not below /tmp, of which builds have their own.
    tools: TempDir,
    pub(crate) fleet: Fleet,
    pub(crate) mallory: Service,
    /// Counts what is deployed, and files that are attacked.
    count: u32,
    /// The release that was admitted before the last one.
    before: Value,
    /// What one build could do; made when it is first asked for.
    pub(crate) report: Option<String>,
}

/// Enrols a host of `dev`, whatever version the agent is.
pub(crate) fn enrolled(fleet: &Fleet, name: &str, tools: &Path) -> Host {
    let host = Host::bare(fleet.path(format!("hosts/{name}")));
    let url = format!("file://{}", fleet.path("state.git").display());
    let domain = fleet.domain();
    let ports = format!("{}-{}", host.ports().start(), host.ports().end());
    let tools = tools.display().to_string();
    let outcomes = ACCOUNTS.map(|accounts| {
        let mut args = vec!["enroll", "--repository", &url, "--domain", &domain];
        args.extend(["--host", name, "--environment", "dev", "--poll", "200ms"]);
        args.extend(["--ports", &ports, "--tools", &tools]);
        args.extend(accounts);
        host.agent(&args)
    });
    // Of the two one is not known, or the host is enrolled already.
    assert!(
        outcomes.iter().any(|outcome| outcome.code == 0),
        "{outcomes:?}"
    );
    let settings = fs::read_to_string(host.config()).unwrap();
    fs::write(
        host.config(),
        format!("{settings}limits: {{ cooldown: 0s }}\n"),
    )
    .unwrap();
    host
}

impl Yard {
    pub(crate) fn new() -> Self {
        let fleet = Fleet::new("hosts: any\n", &[]);
        // Others may pass, as they may pass /var/lib: what holds them off must be the agent's.
        fs::set_permissions(fleet.path(""), Permissions::from_mode(0o711)).unwrap();
        fs::create_dir(fleet.path("canaries")).unwrap();
        let tools = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(tools.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(tools.path().join("bin")).unwrap();
        let intruder = tools.path().join("bin/intruder");
        fs::copy(binary("intruder"), &intruder).unwrap();
        let helper = tools.path().join("bin/helper");
        fs::copy(&intruder, &helper).unwrap();
        fs::copy(binary("agent"), tools.path().join("bin/agent")).unwrap();
        fs::set_permissions(&helper, Permissions::from_mode(0o4755)).unwrap();
        write(&fleet.path("secret"), SECRET, 0o600);
        let mallory = Service {
            program: intruder.clone(),
            ..Service::web("mallory")
        };
        let victim = Service {
            program: intruder,
            ..Service::web("victim")
        };
        for service in [&mallory, &victim] {
            fleet.add(service);
            let name = service.name;
            fleet.write(
                &format!("services/{name}/service.yaml"),
                &yaml(&fleet, service),
            );
            let source = fleet.path(format!("sources/{name}"));
            fs::write(source.join("build.sh"), ": > spoils\n").unwrap();
            // A folder that root takes its time to give away.
            fs::create_dir(source.join("big")).unwrap();
            for number in 0..FILES {
                fs::write(source.join(format!("big/{number}")), "").unwrap();
            }
            let commit = fleet.source(name, "first\n");
            let overlay = format!("source: {{ commit: \"{commit}\" }}\n");
            fleet.write(&format!("environments/dev/{name}.yaml"), &overlay);
        }
        fleet.commit("Add the services").ok();
        fleet.push().ok();

        let host = enrolled(&fleet, "one", tools.path());
        for service in ["mallory", "victim"] {
            let folder = host.root().join("etc/writ/credentials").join(service);
            fs::create_dir_all(&folder).unwrap();
            for name in CREDENTIALS {
                let bulk = if name == "token" { 0 } else { 4 << 20 };
                write(
                    &folder.join(name),
                    &format!("{SECRET}{}", " ".repeat(bulk)),
                    0o600,
                );
            }
        }
        let secrets = host.root().join("etc/writ/credentials");
        fs::set_permissions(secrets, Permissions::from_mode(0o700)).unwrap();
        let mut yard = Self {
            host,
            tools,
            fleet,
            mallory,
            count: 0,
            before: Value::Null,
            report: None,
        };
        yard.start();
        yard.host.wait_for("the victim is live", "victim", is_live);
        yard.host
            .wait_for("the attacker is live", "mallory", is_live);
        let data = yard.host.services().join("victim/data/secret");
        let port = victim.port.unwrap();
        ask(port, &["write", &data.display().to_string(), SECRET]).unwrap();
        yard
    }

    /// Starts the agent, which the group of [`LOOKERS`] may ask.
    pub(crate) fn start(&mut self) {
        self.host.start_with(|agent| {
            agent.gid(LOOKERS).env("WRIT_CANARY", SECRET);
        });
    }

    /// A path below the host's root.
    pub(crate) fn at(&self, path: &str) -> String {
        self.host.root().join(path).display().to_string()
    }

    /// A path of a service's folder.
    pub(crate) fn of(&self, service: &str, path: &str) -> String {
        self.host
            .services()
            .join(service)
            .join(path)
            .display()
            .to_string()
    }

    /// The file that only root may read.
    pub(crate) fn secret(&self) -> String {
        self.fleet.path("secret").display().to_string()
    }

    /// The attacker's program, which all may run.
    pub(crate) fn intruder(&self) -> String {
        self.tools.path().join("bin/intruder").display().to_string()
    }

    /// The agent's program, which all may run.
    pub(crate) fn program(&self) -> String {
        self.tools.path().join("bin/agent").display().to_string()
    }

    /// The attacker's program once more, as one that runs with root's rights.
    pub(crate) fn helper(&self) -> String {
        self.tools.path().join("bin/helper").display().to_string()
    }

    /// A file that is not there yet, whose appearance all may see.
    pub(crate) fn stop_file(&mut self) -> PathBuf {
        self.count += 1;
        self.fleet.path(format!("canaries/{}", self.count))
    }

    /// A new file of root's that must stay as it is.
    pub(crate) fn canary(&mut self) -> PathBuf {
        self.count += 1;
        let path = self.fleet.path(format!("canaries/{}", self.count));
        write(&path, "root's", 0o644);
        path
    }

    /// A new folder of root's whose files have the names of those in the source's folder `big` and of credentials.
    pub(crate) fn canary_folder(&mut self) -> PathBuf {
        self.count += 1;
        let path = self.fleet.path(format!("canaries/{}", self.count));
        fs::create_dir(&path).unwrap();
        let numbers = (0..FILES).map(|number| number.to_string());
        for name in numbers.chain(CREDENTIALS.map(str::to_owned)) {
            fs::write(path.join(name), "").unwrap();
        }
        path
    }

    /// Releases a source of the attacker's service that `script` builds, and waits for what becomes of it: its status
    /// once it is live, or why it is not.
    pub(crate) fn deploy(&mut self, script: &str, within: Duration) -> Result<Value, String> {
        let commit = self.release(script);
        self.outcome(&commit, within)
    }

    /// Releases such a source, and waits for nothing.
    pub(crate) fn release(&mut self, script: &str) -> String {
        self.count += 1;
        self.before = self.host.service("mallory")["desired"].take();
        let source = self.fleet.path("sources/mallory/build.sh");
        fs::write(source, script).unwrap();
        self.fleet
            .release("mallory", &format!("release {}\n", self.count))
    }

    /// What becomes of a commit.
    pub(crate) fn outcome(&self, commit: &str, within: Duration) -> Result<Value, String> {
        let deadline = Instant::now() + within;
        loop {
            let now = self.host.service("mallory");
            if is_live(&now) && now["running"]["source"] == commit {
                return Ok(now);
            }
            if let Some(code) = hold_code(&now).filter(|_| now["desired"] != self.before) {
                return Err(format!(
                    "{code}: {}",
                    now["held"]["detail"].as_str().unwrap_or("")
                ));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{} for {within:?}",
                    now["phase"].as_str().unwrap_or("nothing")
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The number of the last deployment of the attacker's service.
    pub(crate) fn deployments(&self) -> u64 {
        let history = self
            .host
            .agent(&["history", "mallory", "--json"])
            .ok()
            .stdout;
        let entries = history
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries
            .filter_map(|entry| entry["deployment"].as_u64())
            .max()
            .unwrap()
    }

    /// The folder `app` of a release that is live.
    pub(crate) fn app(&self, status: &Value) -> PathBuf {
        let id = &status["running"]["release"].as_str().unwrap()[..12];
        let releases = self.host.services().join("mallory/releases");
        let all = fs::read_dir(&releases).unwrap().flatten();
        let found = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(id));
        found.map(|entry| entry.path().join("app")).next().unwrap()
    }

    /// Says whether an agent answers within ten seconds.
    pub(crate) fn agent_answers(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if self.host.agent(&["status"]).code != 3 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }
}

fn yaml(fleet: &Fleet, service: &Service) -> String {
    let Service {
        name,
        program,
        port,
        ..
    } = service;
    let source = fleet.path(format!("sources/{name}"));
    format!(
        "source: {{ repository: \"file://{}\", branch: main }}\n\
         build: {{ steps: [ {{ run: [ sh, build.sh ] }} ], output: [ behaviour, spoils ], cache: [ kept ], timeout: 60s }}\n\
         run: {{ command: [ \"{}\" ], credentials: [ token, bulk-1, bulk-2 ] }}\n\
         strategy: {{ blueGreen: {{ bake: 100ms }} }}\n\
         health: {{ ready: {{ http: /, every: 100ms }} }}\n\
         traffic: {{ listen: \"127.0.0.1:{}\", drain: 30s }}\n\
         keep: 3\n",
        source.display(),
        program.display(),
        port.unwrap()
    )
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
