//! Runs the `git` program in an author's clone: for what must look to git as if its user had typed it (commits with
//! his signing configuration, pushes with his credentials). Reading goes through [`state::git`].

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

pub mod bounded;

/// Runs `git` in one folder.
#[derive(Clone, Debug)]
pub struct Program {
    folder: PathBuf,
    index: Option<PathBuf>,
}

/// What one run of git said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Standard output, without the last line break.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Program {
    /// Will run git in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            index: None,
        }
    }

    /// The same, with another file as git's index.
    pub fn with_index(&self, index: &Path) -> Self {
        Self {
            folder: self.folder.clone(),
            index: Some(index.to_owned()),
        }
    }

    /// Runs git with `args` and returns what it said, also if it failed.
    pub fn say(&self, args: &[&str], input: &[u8]) -> anyhow::Result<Said> {
        let mut command = Command::new("git");
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        let mut child = command
            .args(args)
            .current_dir(&self.folder)
            // Messages are compared and shown; nothing may ask on a terminal that a CI job does not have.
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run git: is it installed?")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input).context("cannot write to git")?;
        }
        let output = child.wait_with_output().context("cannot wait for git")?;
        Ok(Said {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout)
                .trim_end_matches('\n')
                .to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs git with `args`; fails with what it said if its exit code is not 0.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.feed(args, b"")
    }

    /// Runs git with `args` and `input`; fails with what it said if its exit code is not 0.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> anyhow::Result<String> {
        let said = self.say(args, input)?;
        if !said.success {
            bail!(
                "`git {}` failed:\n{}",
                args.join(" "),
                said.stderr.trim_end()
            );
        }
        Ok(said.stdout)
    }
}
