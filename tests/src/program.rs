//! Running the programs under test and git, in an environment of their own.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::earned;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The outcome itself if the exit code is 0; panics with both outputs otherwise.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(
            self.code, 0,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Asserts that the program refused with `code` (a refusal code) and printed a remedy; the running test earned it.
    #[track_caller]
    pub fn refused(self, code: &str) -> Self {
        assert_ne!(
            self.code, 0,
            "expected {code}; stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        assert!(
            self.all().contains(code),
            "expected {code}:\n{}",
            self.all()
        );
        assert!(
            self.all().contains("remedy"),
            "a remedy stands beside {code}:\n{}",
            self.all()
        );
        earned::earn_here(code);
        self
    }

    /// Both outputs.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Where [`binary`] looks first.
static OTHERS: OnceLock<PathBuf> = OnceLock::new();

/// Has the tests of this process run the programs in `folder` in place of this build's, as far as they are there.
pub fn prefer(folder: &Path) {
    let folder = folder.canonicalize().expect("the folder of the programs");
    OTHERS.set(folder).expect("it is said once");
}

/// The path of a binary of this workspace, beside the running test.
///
/// # Panics
/// When it was not built: `cargo build --workspace` comes before the tests.
pub fn binary(name: &str) -> PathBuf {
    let other = OTHERS.get().map(|folder| folder.join(name));
    if let Some(other) = other.filter(|other| other.is_file()) {
        return other;
    }
    let test = std::env::current_exe().expect("the test's own path");
    let found = test
        .ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not built: run `cargo build --workspace` first"))
}

/// A command with nothing of the caller's environment but PATH, and with stock git configuration.
pub fn command(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null());
    command
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Outcome {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What `command` says to `input`, which is small.
///
/// # Errors
/// When it cannot be run or does not listen.
pub fn feed(command: &mut Command, input: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    Ok(child.wait_with_output()?.stdout)
}

/// The same, with the file `input` on standard input.
pub fn run_with_input(command: &mut Command, input: &Path) -> Outcome {
    let file = std::fs::File::open(input).expect("the input");
    run(command.stdin(Stdio::from(file)))
}
