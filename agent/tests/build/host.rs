//! A host, a service's folders on it and a source repository of real git.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use agent::build::{Built, Job, Unbuilt};
use agent::layout::{Layout, ServiceLayout};
use agent::sandbox::{Config, Kind, Sandbox};
use agent::source::{Access, Fetched, Limits};
use agent::user::User;
use agent::{build, source};
use state::Refusal;
use state::digest::{ObjectId, ReleaseId};
use state::git::worker::Worker;
use state::service::{Service, Step};
use state::unit::Bytes;

/// A host, a service's folders on it, and a source repository.
pub(crate) struct Host {
    pub(crate) root: tempfile::TempDir,
    pub(crate) layout: Layout,
    pub(crate) service: ServiceLayout,
    pub(crate) worker: Worker,
}

impl Host {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(&root.path().join("host")).unwrap();
        let service = layout.service(&"web".parse().unwrap());
        layout.create().unwrap();
        service.create(None).unwrap();
        let host = Self {
            worker: Worker::new(
                env!("CARGO_BIN_EXE_agent").into(),
                vec!["fetch-worker".into()],
            ),
            root,
            layout,
            service,
        };
        fs::create_dir(host.repository()).unwrap();
        host.git(&["init", "--quiet", "--initial-branch=main"]);
        host
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.root.path().join("source")
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.repository())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.root.path())
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.org",
                "-c",
                "protocol.file.allow=always",
            ])
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.repository().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits all there is and gives the commit.
    pub(crate) fn commit(&self) -> ObjectId {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// A service whose only build step is `script`, of the commit `pin`.
    pub(crate) fn spec(&self, pin: ObjectId, script: &str) -> Service {
        let text = serde_json::json!({
            "source": { "repository": self.repository(), "branch": "main", "commit": pin },
            "run": { "command": ["./web"] },
        });
        let mut spec: Service = serde_json::from_value(text).unwrap();
        spec.build.steps = vec![shell(script)];
        spec
    }

    pub(crate) fn fetch(&mut self, spec: &Service) -> Result<Fetched, Refusal> {
        let mirror = self.layout.source(&spec.source.repository);
        source::fetch(
            &mirror,
            &spec.source,
            &Access::default(),
            &Limits::default(),
            &mut self.worker,
        )
    }

    pub(crate) async fn release(&mut self, number: u32, spec: &Service) -> Result<Built, Unbuilt> {
        self.release_in(&sandbox(Config::default()), number, spec)
            .await
    }

    pub(crate) async fn release_in(
        &mut self,
        sandbox: &Sandbox,
        number: u32,
        spec: &Service,
    ) -> Result<Built, Unbuilt> {
        let fetched = self.fetch(spec)?;
        let job = Job {
            service: self.service.clone(),
            id: ReleaseId([1; 32]),
            number,
            spec: spec.clone(),
        };
        let compiled = build::build(job, &fetched, &Limits::default(), sandbox, &|_| {}).await?;
        let tested = build::test(compiled, sandbox, &|_| {}).await?;
        Ok(build::stage(tested, sandbox, b"release: yes\n")?)
    }

    /// Commits `web` with a build of `script`, whose failure is given.
    pub(crate) async fn fails(&mut self, script: &str) -> Unbuilt {
        self.write("web", "web");
        let spec = self.spec(self.commit(), script);
        self.release(1, &spec).await.unwrap_err()
    }

    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        fs::read_dir(self.service.releases())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

pub(crate) fn shell(script: &str) -> Step {
    let run = ["sh", "-ec", script].map(str::to_owned).to_vec();
    Step { run }
}

pub(crate) fn sandbox(config: Config) -> Sandbox {
    sandbox_of(config, Bytes(0), None)
}

pub(crate) fn sandbox_of(config: Config, floor: Bytes, user: Option<User>) -> Sandbox {
    Sandbox::new(config, env!("CARGO_BIN_EXE_agent").into(), floor, user)
}

pub(crate) fn unconfined() -> Sandbox {
    sandbox(Config {
        kind: Kind::None,
        ..Config::default()
    })
}

/// Runs a command that must succeed and gives what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The command lines of all processes that hold `mark`.
pub(crate) fn commands_with(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains(mark))
        .collect()
}
