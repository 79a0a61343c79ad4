//! How the commands of builds and tests are confined: bubblewrap around each of them, or, where an operator says so,
//! nothing but an empty environment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use state::service::Network;
use state::unit::Bytes;
use state::{Code, Refusal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

pub use crate::config::sandbox::{Config, Kind};
use crate::disk;
use crate::meter::{Excess, Meter};
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
/// The temporary files, as a confined command sees them.
const TMP: &str = "/tmp";
/// The size of a confined command's /dev/shm, in bytes: it lies in memory.
const SHM: &str = "268435456";
/// How long bubblewrap may take to run nothing.
const TRIAL: Duration = Duration::from_secs(30);

/// Runs commands confined.
#[derive(Clone, Debug)]
pub struct Sandbox {
    config: Config,
    /// The agent's own program, which starts each command.
    program: PathBuf,
    /// What the file system must have left.
    floor: Bytes,
    user: Option<User>,
}

/// The folders that the commands of a build may write to.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// Where they work.
    pub(crate) checkout: PathBuf,
    /// Their home: what tools keep between builds of the service.
    pub(crate) home: PathBuf,
    /// Their temporary files.
    pub(crate) tmp: PathBuf,
}

/// One command of a build or a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// Program and arguments.
    pub(crate) argv: &'a [String],
    /// What it may write to.
    pub(crate) folders: &'a Folders,
    /// Whether it may use the network.
    pub(crate) network: Network,
    /// When it is killed.
    pub(crate) deadline: Instant,
    /// What it may use.
    pub(crate) meter: &'a Meter,
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
    /// It used more than `build.limits` allow.
    Excess(Excess),
}

impl Sandbox {
    /// A sandbox as configured, which leaves `floor` of the disk free; commands are started by `program`, the agent, and
    /// run as `user`, if there is one.
    pub fn new(config: Config, program: PathBuf, floor: Bytes, user: Option<User>) -> Self {
        Self {
            config,
            program,
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

    /// What the file system must have left.
    pub(crate) fn floor(&self) -> Bytes {
        self.floor
    }

    /// Tries the sandbox in the folders of a build.
    ///
    /// # Errors
    /// `SANDBOX_MISSING` with what bubblewrap says, `DISK_FULL` if there is no room for a build.
    pub(crate) async fn check(&self, folders: &Folders, meter: &Meter) -> Result<(), Refusal> {
        let job = Job {
            argv: &["true".to_owned()],
            folders,
            network: Network::Deny,
            deadline: Instant::now() + TRIAL,
            meter,
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
            Err(Failure::Excess(excess)) => Err(Refusal::new(Code::BuildLimit, excess.to_string())),
        }
    }

    /// Runs one command to its end; `output` gets what it prints. Everything it started has ended when this returns.
    pub(crate) async fn run(
        &self,
        job: &Job<'_>,
        output: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        self.room(&job.folders.checkout)?;
        let command = match self.config.kind {
            Kind::Bubblewrap => self.bubblewrap(job),
            Kind::None => self.unconfined(job),
        };
        let program = command.get_program().to_string_lossy().into_owned();
        let stop = |process| async move {
            tokio::select! {
                () = sleep_until(job.deadline) => Failure::TimedOut,
                full = disk::full(&job.folders.checkout, self.floor) => Failure::DiskFull(full.detail),
                excess = job.meter.exceeded(process) => Failure::Excess(excess),
            }
        };
        let ended = spawn::run(self.limited(&command, job), None, stop, output).await;
        let meter = job.meter.clone();
        // A command may be done before it is looked at.
        let excess = spawn_blocking(move || meter.left_behind()).await;
        match ended {
            Ok(Ended::Stopped(why)) => Err(why),
            _ if let Ok(Some(excess)) = excess => Err(Failure::Excess(excess)),
            Ok(Ended::Exited(status)) if status.success() => Ok(()),
            Ok(Ended::Exited(status)) if outgrew(status) => {
                let limit = job.meter.limits.disk;
                let used = "more than that for one file";
                Err(Failure::Excess(Excess::new("disk", limit, used)))
            }
            Ok(Ended::Exited(status)) => {
                self.room(&job.folders.checkout)?;
                Err(Failure::Failed(Exit::from(status).to_string()))
            }
            Err(error) => Err(Failure::Failed(format!(
                "cannot start '{program}': {error}"
            ))),
        }
    }

    /// The command under the kernel's limits, and as the account of builds: `agent step` sets them and becomes it.
    fn limited(&self, command: &Command, job: &Job<'_>) -> Command {
        let mut step = Command::new(&self.program);
        // A little more, so that who fills one file passes the limit that is told.
        let file_size = job.meter.limits.disk.0.saturating_add(1 << 20);
        step.args(["step", "--file-size", &file_size.to_string()]);
        if let Some(user) = &self.user {
            step.args(["--uid", &user.uid.to_string()]);
            step.args(["--gid", &user.gid.to_string()]);
        }
        step.arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        if let Some(folder) = command.get_current_dir() {
            step.current_dir(folder);
        }
        step
    }

    /// Fails if the file system of `folder` has less space left than the floor.
    fn room(&self, folder: &Path) -> Result<(), Failure> {
        disk::room(folder, self.floor).map_err(|refusal| Failure::DiskFull(refusal.detail))
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
        let mut environment = self.environment(&job.folders.home);
        let tmp = job.folders.tmp.display().to_string();
        environment.entry("TMPDIR".to_owned()).or_insert(tmp);
        // As the service's processes are started.
        let mut command = spawn::command(&job.folders.checkout, &job.argv[0], &environment);
        command.args(&job.argv[1..]);
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
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        command.args(["--size", SHM, "--tmpfs", "/dev/shm"]);
        // The same paths in every build, so that what a build caches by path is found by the next.
        command
            .arg("--bind")
            .arg(&job.folders.checkout)
            .arg(CHECKOUT);
        command.arg("--bind").arg(&job.folders.home).arg(HOME);
        command.arg("--bind").arg(&job.folders.tmp).arg(TMP);
        // Both are file systems in memory without a size.
        command.args(["--remount-ro", "/dev", "--remount-ro", "/"]);
        for (name, value) in self.environment(Path::new(HOME)) {
            command.args(["--setenv", &name, &value]);
        }
        command.args(["--chdir", CHECKOUT, "--"]).args(job.argv);
        command
    }
}

/// Says whether a command ended because a file became longer than it may, or did so for one that it started, as shells
/// and bubblewrap tell it.
fn outgrew(status: ExitStatus) -> bool {
    let signal = Signal::XFSZ.as_raw();
    status.signal() == Some(signal) || status.code() == Some(128 + signal)
}
