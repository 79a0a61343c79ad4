//! Stock `git` and `ssh-keygen` in an empty folder: they decide in tests whether we read and write as they do.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A temporary folder with the programs' view of the world: no user, no configuration.
pub(crate) struct Oracle {
    folder: tempfile::TempDir,
}

impl Oracle {
    /// Makes an empty folder.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in the folder; its mode suits a private key.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        crate::file::write_atomic(&path, bytes.as_ref(), 0o600).unwrap();
        path
    }

    /// Reads a file of the folder.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }

    /// Runs `program` in the folder with `input`, which is small; `None` if it fails.
    pub(crate) fn try_run(
        &self,
        program: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Option<Vec<u8>> {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A program that does not read its input closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    /// Runs `program` in the folder, which must succeed, and returns what it printed, trimmed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.try_run(program, arguments, b"");
        let output = output.unwrap_or_else(|| panic!("{program} {arguments:?} failed"));
        String::from_utf8(output).unwrap().trim().to_owned()
    }
}
