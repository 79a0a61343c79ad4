//! A fleet in one temporary folder: keys, a state repository with its hooks or on a forge, source repositories, and hosts.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::host::{Host, SmallDisk};
use crate::program::{self, Outcome, binary};

/// A fleet whose policy runs in the hooks of a bare repository; gone, with every process, when the value is dropped.
#[derive(Debug)]
pub struct Fleet {
    dir: TempDir,
}

/// What a service of a test looks like; the defaults make a healthy web service that swaps within seconds.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, also of its source repository.
    pub name: &'static str,
    /// The port that clients connect to; none makes a worker.
    pub port: Option<u16>,
    /// What it runs.
    pub program: PathBuf,
    /// The strategy, as YAML.
    pub strategy: &'static str,
    /// Build steps and test steps, as YAML lists of argument lists.
    pub build: &'static str,
    /// Test steps.
    pub test: &'static str,
    /// The time that builds and tests have.
    pub timeout: &'static str,
    /// Further top-level YAML, one block a line.
    pub extra: String,
}

impl Service {
    /// A healthy web service on a port of its own.
    pub fn web(name: &'static str) -> Self {
        Self {
            name,
            port: Some(free_port()),
            program: binary("service"),
            strategy: "{ blueGreen: { bake: 1s } }",
            build: "[]",
            test: "[]",
            timeout: "20s",
            extra: String::new(),
        }
    }

    /// A worker without traffic.
    pub fn worker(name: &'static str) -> Self {
        Self {
            port: None,
            strategy: "{ recreate: { bake: 1s } }",
            ..Self::web(name)
        }
    }

    fn yaml(&self, source: &Path) -> String {
        let Self {
            strategy,
            build,
            test,
            timeout,
            extra,
            ..
        } = self;
        let mut text = format!(
            "source: {{ repository: \"file://{}\", branch: main }}\n\
             build: {{ steps: {build}, output: [ behaviour ], timeout: {timeout} }}\n\
             test: {{ steps: {test}, timeout: {timeout} }}\n\
             run: {{ command: [ \"{}\" ] }}\n\
             strategy: {strategy}\n{extra}\n",
            source.display(),
            self.program.display()
        );
        if let Some(port) = self.port {
            let _ = write!(
                text,
                "health:\n  startup: {{ http: /, within: 4s }}\n  \
                   ready: {{ http: /health/ready, every: 100ms, successes: 2, failures: 2, timeout: 1s }}\n  \
                   live: {{ http: /health, every: 200ms, failures: 2, timeout: 1s }}\n\
                 traffic: {{ listen: \"127.0.0.1:{port}\", drain: 3s }}\n"
            );
        }
        text
    }
}

/// A TCP port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port()
}

impl Fleet {
    /// Makes keys, trust, a bare repository with hooks, the environment `dev` with `rules`, and `services` pinned to
    /// their first commit; everything is pushed and admitted.
    pub fn new(rules: &str, services: &[Service]) -> Self {
        let fleet = Self::begin(rules);
        fleet
            .policy(&["hook", "install", "state.git", "--key", "keys/policy"])
            .ok();
        fleet.fill(services);
        fleet
    }

    /// The same on a forge: the bare repository has no hooks of ours, and policy has the mirror `mirror.git`.
    pub fn hosted(rules: &str, services: &[Service]) -> Self {
        let fleet = Self::begin(rules);
        fleet.fill(services);
        fleet.mirror("mirror.git", "keys/policy").ok();
        fleet
    }

    /// Makes one pass over the mirror `name`, which is made if it is missing.
    pub fn mirror(&self, name: &str, key: &str) -> Outcome {
        let url = format!("file://{}", self.path("state.git").display());
        self.policy(&["admit", name, "--remote", &url, "--key", key])
    }

    /// Keys, trust and a bare repository.
    fn begin(rules: &str) -> Self {
        let fleet = Self {
            dir: tempfile::Builder::new()
                .prefix("writ-")
                .tempdir()
                .expect("a temporary folder"),
        };
        std::fs::create_dir_all(fleet.path("template/environments/dev")).expect("template");
        std::fs::write(
            fleet.path("template/environments/dev/environment.yaml"),
            rules,
        )
        .expect("rules");
        fleet
            .policy(&[
                "init",
                "--demo-keys",
                "--name",
                "tests",
                "--from",
                "template",
                "--keys",
                "keys",
                "state",
            ])
            .ok();
        program::run(
            fleet
                .git(Path::new("state.git"))
                .args(["init", "-q", "--bare", "-b", "main", "."]),
        )
        .ok();
        fleet
            .in_state(&["remote", "add", "origin", "../state.git"])
            .ok();
        fleet
    }

    /// Pushes everything, with `services`.
    fn fill(&self, services: &[Service]) {
        self.in_state(&["push", "-q", "origin", "trust"]).ok();
        self.in_state(&["push", "-q", "-u", "origin", "main"]).ok();
        for service in services {
            self.add(service);
        }
        if !services.is_empty() {
            self.commit("Add the services").ok();
            self.push().ok();
        }
    }

    /// A path inside the fleet's folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes the files of `service`, its source repository and an overlay for `dev` that pins the first commit.
    pub fn add(&self, service: &Service) {
        let source = self.path(format!("sources/{}", service.name));
        std::fs::create_dir_all(&source).expect("source folder");
        program::run(self.git(&source).args(["init", "-q", "-b", "main", "."])).ok();
        let commit = self.source(service.name, "text v1\n");
        self.write(
            &format!("services/{}/service.yaml", service.name),
            &service.yaml(&source),
        );
        self.write(
            &format!("environments/dev/{}.yaml", service.name),
            &format!("source: {{ commit: \"{commit}\" }}\n"),
        );
    }

    /// Commits `behaviour` to the source repository of `service` and returns the commit id.
    pub fn source(&self, service: &str, behaviour: &str) -> String {
        let source = self.path(format!("sources/{service}"));
        std::fs::write(source.join("behaviour"), behaviour).expect("behaviour");
        program::run(self.git(&source).args(["add", "-A"])).ok();
        program::run(self.git(&source).args([
            "commit",
            "-q",
            "--allow-empty",
            "--no-gpg-sign",
            "-m",
            "Change",
        ]))
        .ok();
        program::run(self.git(&source).args(["rev-parse", "HEAD"]))
            .ok()
            .stdout
            .trim()
            .to_owned()
    }

    /// Writes a file of the author's work tree.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path("state").join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("folder");
        std::fs::write(path, text).expect("file");
    }

    /// Commits everything in the work tree, signed as `policy init` configured it.
    pub fn commit(&self, message: &str) -> Outcome {
        self.in_state(&["add", "-A"]).ok();
        self.in_state(&["commit", "-q", "-m", message])
    }

    /// Pushes `main`.
    pub fn push(&self) -> Outcome {
        self.in_state(&["push", "-q", "origin", "main"])
    }

    /// Takes back what was committed and not accepted.
    pub fn reset(&self) {
        self.in_state(&["fetch", "-q", "origin"]).ok();
        self.in_state(&["reset", "-q", "--hard", "origin/main"])
            .ok();
    }

    /// Pins `service` in `dev` to a new source commit of this behaviour and pushes, as CI does; returns the source commit.
    pub fn release(&self, service: &str, behaviour: &str) -> String {
        let commit = self.source(service, behaviour);
        self.pin(service, &commit);
        commit
    }

    /// Pins `service` in `dev` to any commit id and pushes.
    pub fn pin(&self, service: &str, commit: &str) {
        let state = self.path("state");
        let args = [
            "release",
            service,
            "--environment",
            "dev",
            "--commit",
            commit,
            "--push",
        ];
        program::run(
            program::command(binary("policy"), self.dir.path())
                .args(args)
                .current_dir(state),
        )
        .ok();
    }

    /// Commits `behaviour` to the source repository of `service` on a branch that is then deleted, as a fork's commit
    /// lies in a forge's repository; returns the commit id.
    pub fn source_aside(&self, service: &str, behaviour: &str) -> String {
        let source = self.path(format!("sources/{service}"));
        program::run(self.git(&source).args(["checkout", "-q", "-b", "fork"])).ok();
        let commit = self.source(service, behaviour);
        program::run(self.git(&source).args(["checkout", "-q", "main"])).ok();
        program::run(
            self.git(&source)
                .args(["update-ref", "refs/pull/1/head", &commit]),
        )
        .ok();
        program::run(self.git(&source).args(["branch", "-q", "-D", "fork"])).ok();
        commit
    }

    /// Runs git in the author's work tree.
    pub fn in_state(&self, args: &[&str]) -> Outcome {
        program::run(self.git(Path::new("state")).args(args))
    }

    /// Runs `policy` in the fleet's folder.
    pub fn policy(&self, args: &[&str]) -> Outcome {
        program::run(
            program::command(binary("policy"), self.dir.path())
                .args(args)
                .current_dir(self.dir.path()),
        )
    }

    /// Publishes trust version 2, in which `name`, who has the key `keys/NAME`, may do `rights` everywhere.
    pub fn add_author(&self, name: &str, rights: &[&str]) {
        let key = format!("{name}=keys/{name}.pub");
        let mut propose = vec!["trust", "propose", "state.git", "--add-author", &key];
        propose.extend(["--environment", "*", "--path", "**"]);
        propose.extend(rights.iter().flat_map(|right| ["--may", right]));
        self.policy(&propose).ok();
        self.publish_second_trust();
    }

    /// Has root sign `2.yaml` in the fleet's folder, and pushes it.
    pub fn publish_second_trust(&self) {
        let first = self.in_state(&["show", "trust:1.yaml"]).ok().stdout;
        std::fs::write(self.path("1.yaml"), first).expect("the first trust file");
        self.policy(&["trust", "sign", "2.yaml", "--key", "keys/root"])
            .ok();
        self.in_state(&["switch", "-q", "trust"]).ok();
        for file in ["2.yaml", "2.sig"] {
            std::fs::copy(self.path(file), self.path("state").join(file)).expect("a copy");
        }
        self.in_state(&["add", "."]).ok();
        self.in_state(&["commit", "-q", "--no-gpg-sign", "-m", "Trust version 2"])
            .ok();
        self.in_state(&["push", "-q", "origin", "trust"]).ok();
        self.in_state(&["switch", "-q", "main"]).ok();
    }

    /// The domain, as hosts are enrolled with it.
    pub fn domain(&self) -> String {
        let trust = self.in_state(&["show", "trust:1.yaml"]).ok();
        format!(
            "sha256:{}",
            state::digest::Sha256Hash::of(trust.stdout.as_bytes())
        )
    }

    /// A host of `dev` that was enrolled against the bare repository's path.
    pub fn host(&self, name: &str) -> Host {
        let url = format!("file://{}", self.path("state.git").display());
        Host::enroll(
            self.path(format!("hosts/{name}")),
            name,
            &url,
            &self.domain(),
            &[],
        )
    }

    /// The same, with all of the host's files on a file system of `size`, in a mount namespace of its own.
    pub fn host_on_small_disk(&self, name: &str, size: &str) -> Host {
        let url = format!("file://{}", self.path("state.git").display());
        let disk = SmallDisk::new(&self.path(format!("hosts/{name}")), size);
        Host::enroll_on(disk, name, &url, &self.domain())
    }

    fn git(&self, dir: &Path) -> std::process::Command {
        let dir = self.path(dir);
        std::fs::create_dir_all(&dir).expect("folder");
        let mut git = program::command("git", self.dir.path());
        git.args([
            "-c",
            "user.name=tests",
            "-c",
            "user.email=tests@example.org",
        ])
        .current_dir(dir);
        git
    }
}
