//! How the commands of builds and tests are confined: bubblewrap around each of them, or, where an operator says so,
//! nothing but an empty environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use state::service::Network;
use state::unit::Bytes;
use state::{Code, Refusal};
use tokio::time::{Instant, sleep, sleep_until};

use crate::disk;
use crate::runner::Exit;
use crate::spawn::{self, Ended};
use crate::user::User;

/// Where programs are searched for after the tools' folders.
const SYSTEM_PATH: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];
/// What the system's programs read beside /usr. Not all hosts have all of it.
const SYSTEM_FILES: [&str; 2] = ["/etc/alternatives", "/etc/ld.so.cache"];
/// What a command with network needs: names, and the authorities to trust.
const NETWORK_FILES: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/pki",
];
/// The checkout, as a confined command sees it.
const CHECKOUT: &str = "/build";
/// The home, as a confined command sees it.
const HOME: &str = "/home";
/// The size of a confined command's /tmp, in bytes: it lies in memory.
const TMP: &str = "1073741824";
/// How long bubblewrap may take to run nothing.
const TRIAL: Duration = Duration::from_secs(30);
/// How often the space that is left is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// `sandbox` in agent.yaml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// What confines.
    pub kind: Kind,
    /// Folders that commands may read beside the system's; the folder `bin` of each is searched for programs.
    pub tools: Vec<PathBuf>,
    /// Further variables.
    pub environment: BTreeMap<String, String>,
}

/// What confines the commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// bubblewrap.
    #[default]
    Bubblewrap,
    /// Nothing: status says that this host's builds are not confined.
    None,
}

/// Runs commands confined.
#[derive(Clone, Debug)]
pub struct Sandbox {
    config: Config,
    /// What the file system must have left.
    floor: Bytes,
    user: Option<User>,
}

/// One command of a build or a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// Program and arguments.
    pub(crate) argv: &'a [String],
    /// The folder that it works in and may change.
    pub(crate) checkout: &'a Path,
    /// Its home: what tools keep between builds of the service.
    pub(crate) home: &'a Path,
    /// Whether it may use the network.
    pub(crate) network: Network,
    /// When it is killed.
    pub(crate) deadline: Instant,
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It ended with an error, or could not be started.
    Failed(String),
    /// It was killed at its deadline.
    TimedOut,
    /// It was killed, or ended, for want of space.
    DiskFull(String),
}

impl Sandbox {
    /// A sandbox as configured, which leaves `floor` of the disk free; commands run as `user`, if one is given.
    pub fn new(config: Config, floor: Bytes, user: Option<User>) -> Self {
        Self {
            config,
            floor,
            user,
        }
    }

    /// Says whether commands are confined.
    pub fn confines(&self) -> bool {
        self.config.kind == Kind::Bubblewrap
    }

    /// The same sandbox for the commands of another account.
    #[must_use]
    pub fn as_user(&self, user: Option<User>) -> Self {
        Self {
            user,
            ..self.clone()
        }
    }

    /// The account that commands run as.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Tries the sandbox in the folder of a build.
    ///
    /// # Errors
    /// `SANDBOX_MISSING` with what bubblewrap says, `DISK_FULL` if there is no room for a build.
    pub(crate) async fn check(&self, checkout: &Path, home: &Path) -> Result<(), Refusal> {
        let job = Job {
            argv: &["true".to_owned()],
            checkout,
            home,
            network: Network::Deny,
            deadline: Instant::now() + TRIAL,
        };
        let mut said = Vec::new();
        let missing = |detail: String| Refusal::new(Code::SandboxMissing, detail);
        match self.run(&job, |bytes| said.extend_from_slice(bytes)).await {
            Ok(()) => Ok(()),
            Err(Failure::DiskFull(detail)) => Err(Refusal::new(Code::DiskFull, detail)),
            Err(Failure::TimedOut) => Err(missing(format!(
                "bubblewrap did not start within {TRIAL:?}"
            ))),
            Err(Failure::Failed(how)) => Err(missing(format!(
                "{how}: {}",
                String::from_utf8_lossy(&said).trim()
            ))),
        }
    }

    /// Runs one command to its end; `output` gets what it prints. Everything it started has ended when this returns.
    pub(crate) async fn run(
        &self,
        job: &Job<'_>,
        output: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        self.room(job.checkout)?;
        let command = match self.config.kind {
            Kind::Bubblewrap => self.bubblewrap(job),
            Kind::None => self.unconfined(job),
        };
        let program = command.get_program().to_string_lossy().into_owned();
        let stop = async {
            tokio::select! {
                () = sleep_until(job.deadline) => Failure::TimedOut,
                full = self.full(job.checkout) => full,
            }
        };
        match spawn::run(command, self.user.as_ref(), stop, output).await {
            Ok(Ended::Exited(status)) if status.success() => Ok(()),
            Ok(Ended::Exited(status)) => {
                self.room(job.checkout)?;
                Err(Failure::Failed(Exit::from(status).to_string()))
            }
            Ok(Ended::Stopped(why)) => Err(why),
            Err(error) => Err(Failure::Failed(format!(
                "cannot start '{program}': {error}"
            ))),
        }
    }

    /// Fails if the file system of `folder` has less space left than the floor.
    fn room(&self, folder: &Path) -> Result<(), Failure> {
        disk::room(folder, self.floor).map_err(|refusal| Failure::DiskFull(refusal.detail))
    }

    /// Ends when there is no room any more: what runs on the host must not suffer from a build.
    async fn full(&self, folder: &Path) -> Failure {
        loop {
            sleep(LOOK).await;
            if let Err(full) = self.room(folder) {
                return full;
            }
        }
    }

    /// The variables of every command, with `home` as it sees it.
    fn environment(&self, home: &Path) -> BTreeMap<String, String> {
        let tools = self
            .config
            .tools
            .iter()
            .map(|tool| tool.join("bin").display().to_string());
        let path: Vec<String> = tools.chain(SYSTEM_PATH.map(str::to_owned)).collect();
        let mut environment = BTreeMap::from([
            ("HOME".to_owned(), home.display().to_string()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("PATH".to_owned(), path.join(":")),
        ]);
        environment.extend(self.config.environment.clone());
        environment
    }

    fn unconfined(&self, job: &Job<'_>) -> Command {
        let environment = self.environment(job.home);
        // As the service's processes are started: a program with a slash is one of the checkout.
        let program = &job.argv[0];
        let path = if program.contains('/') {
            job.checkout.join(program)
        } else {
            program.into()
        };
        let mut command = Command::new(path);
        command
            .args(&job.argv[1..])
            .env_clear()
            .envs(environment)
            .current_dir(job.checkout);
        command
    }

    fn bubblewrap(&self, job: &Job<'_>) -> Command {
        let mut command = Command::new("bwrap");
        command
            .env_clear()
            .env("PATH", SYSTEM_PATH.join(":"))
            .current_dir("/");
        command.args(["--unshare-all", "--clearenv", "--cap-drop", "ALL"]);
        // The command dies with the agent, and cannot put characters into its terminal's input.
        command.args(["--die-with-parent", "--new-session"]);
        command.args(["--ro-bind", "/usr", "/usr"]);
        for folder in ["/bin", "/sbin", "/lib", "/lib32", "/lib64"] {
            match fs::read_link(folder) {
                Ok(target) => command.arg("--symlink").arg(target).arg(folder),
                Err(_) => command.args(["--ro-bind-try", folder, folder]),
            };
        }
        let mut readable = SYSTEM_FILES.to_vec();
        if job.network == Network::Allow {
            command.arg("--share-net");
            readable.extend(NETWORK_FILES);
        }
        for path in readable {
            command.args(["--ro-bind-try", path, path]);
        }
        for tool in &self.config.tools {
            command.arg("--ro-bind").arg(tool).arg(tool);
        }
        command.args([
            "--proc", "/proc", "--dev", "/dev", "--size", TMP, "--tmpfs", "/tmp",
        ]);
        // The same paths in every build, so that what a build caches by path is found by the next.
        command.arg("--bind").arg(job.checkout).arg(CHECKOUT);
        command.arg("--bind").arg(job.home).arg(HOME);
        for (name, value) in self.environment(Path::new(HOME)) {
            command.args(["--setenv", &name, &value]);
        }
        command.args(["--chdir", CHECKOUT, "--"]).args(job.argv);
        command
    }
}
