//! What holds private keys besides files: security keys, in software, and a real ssh-agent.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::fleet::Fleet;
use crate::program::{self, Outcome, binary};
use crate::wait;

/// A folder of programs in which `ssh-keygen` has security keys.
pub struct Hardware {
    dir: TempDir,
}

impl Hardware {
    /// Makes it.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        symlink(binary("security-key"), dir.path().join("ssh-keygen")).expect("a link");
        Self { dir }
    }

    /// What comes first in PATH.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// `program` in `folder`, with the security keys.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let mut command = program::command(program, folder);
        let path = std::env::var("PATH").expect("PATH");
        command
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", self.dir.path().display()));
        command
    }

    /// Makes the security key `keys/NAME`; `options` are ssh-keygen's.
    pub fn make(&self, fleet: &Fleet, name: &str, options: &[&str]) -> PathBuf {
        let path = fleet.path(format!("keys/{name}"));
        let mut keygen = self.command("ssh-keygen", &fleet.path(""));
        keygen.args(["-q", "-t", "ed25519-sk", "-C", name, "-f"]);
        program::run(keygen.arg(&path).args(options)).ok();
        path
    }

    /// `policy` in the fleet's folder, with the security keys.
    pub fn policy(&self, fleet: &Fleet, args: &[&str]) -> Outcome {
        program::run(self.command(binary("policy"), &fleet.path("")).args(args))
    }

    /// Changes `dev` in a commit signed with the key `name`.
    pub fn commit(&self, fleet: &Fleet, name: &str) {
        let state = fleet.path("state");
        fleet.write(
            "environments/dev/environment.yaml",
            "hosts: any\nmaxRemovals: 7\n",
        );
        let key = format!(
            "user.signingkey={}",
            fleet.path(format!("keys/{name}")).display()
        );
        let mut git = self.command("git", &state);
        git.args([
            "-c",
            "user.name=tests",
            "-c",
            "user.email=tests@example.org",
        ]);
        program::run(git.args(["-c", &key, "commit", "-q", "-a", "-m", "Touch"])).ok();
    }
}

impl Default for Hardware {
    fn default() -> Self {
        Self::new()
    }
}

/// An ssh-agent; gone when the value is dropped.
pub struct SshAgent {
    socket: PathBuf,
    process: Child,
}

impl SshAgent {
    /// Starts an agent that listens at `socket`.
    pub fn start(socket: &Path) -> Self {
        let home = socket.parent().expect("a folder");
        let mut agent = program::command("ssh-agent", home);
        let agent = agent.args(["-D", "-a"]).arg(socket).stdout(Stdio::null());
        let agent = Self {
            socket: socket.to_owned(),
            process: agent.spawn().expect("ssh-agent starts"),
        };
        wait::until("ssh-agent listens", Duration::from_secs(10), || {
            socket.exists().then_some(())
        });
        agent
    }

    /// Takes the private key at `path` into the agent, and its file away.
    pub fn take(&self, path: &Path) {
        let home = path.parent().expect("a folder");
        let mut add = self.command("ssh-add", home);
        program::run(add.arg("-q").arg(path)).ok();
        std::fs::remove_file(path).expect("the private key's file");
    }

    /// `program` in `folder`, with the agent.
    pub fn command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = program::command(program, folder);
        command
            .current_dir(folder)
            .env("SSH_AUTH_SOCK", &self.socket);
        command
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
