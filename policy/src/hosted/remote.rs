//! One remote, asked and pushed to by stock git: no prompt, no hook, no other protocol, no more bytes or time than the
//! settings allow. Nothing that the remote sends is executed, checked out or shown as it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::bail;
use state::digest::ObjectId;
use state::git::RefUpdate;
use state::unit::{Bytes, Period};
use state::{Code, Refusal, limit};

use super::push::Pushed;
use super::url::{check_url, is_ssh};
use crate::program::bounded::{self, Bounds, End, Ended};
use crate::settings::Settings;

/// How long one run of git may take, unless the settings say otherwise.
const DEADLINE: Period = Period::minutes(2);

/// How many bytes one fetch may bring, unless the settings say otherwise.
const MAX_BYTES: Bytes = Bytes(limit::HOST_BYTES);

/// How long packing the mirror may take; it is begun again the next time.
const GARBAGE_DEADLINE: Duration = Duration::from_secs(120);

/// The most bytes of what git says on standard error that an error shows: the last ones.
const SHOWN: usize = 1000;

/// The configuration of every run, above the account's own.
const CONFIG: [&str; 10] = [
    // Nothing that lies in the mirror is executed.
    "core.hooksPath=/dev/null",
    // Credentials are sent where the settings say, and nowhere else.
    "http.followRedirects=false",
    // Who outlives policy does not hang for ever.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    // One fetch is one file, which the limit of a file bounds.
    "fetch.unpackLimit=1",
    "transfer.unpackLimit=1",
    // All that policy reads is checked by the steps of verification. An odd commit on a side that was merged away is not
    // read by anybody, and must not end every fetch from then on.
    "fetch.fsckObjects=false",
    "transfer.fsckObjects=false",
    // Beside a pass, not during one.
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
];

/// ssh, where the account has no command of its own: it asks nothing, and notices that nobody is there.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15";

/// Variables by which a caller's git would work on another repository than the mirror.
const FOREIGN: [&str; 10] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    // Asks in a window, where git is told not to ask on the terminal.
    "SSH_ASKPASS",
];

/// A remote and the mirror of it.
#[derive(Debug)]
pub(super) struct Remote {
    url: String,
    mirror: PathBuf,
    bounds: Bounds,
}

impl Remote {
    /// The remote at `url` with its mirror at `mirror`, within the bounds of `settings`.
    pub(super) fn new(url: &str, mirror: &Path, settings: &Settings) -> anyhow::Result<Self> {
        check_url(url)?;
        let (deadline, bytes) = (
            settings.deadline.unwrap_or(DEADLINE),
            settings.max_bytes.unwrap_or(MAX_BYTES),
        );
        if deadline < Period::seconds(1) || deadline > Period::minutes(60) {
            bail!("deadline: '{deadline}', expected 1s to 1h");
        }
        if bytes < Bytes(64 << 10) {
            bail!("maxBytes: '{bytes}', expected at least 64KiB");
        }
        Ok(Self {
            url: url.to_owned(),
            // git runs in it.
            mirror: std::path::absolute(mirror)?,
            bounds: Bounds {
                deadline: deadline.duration(),
                max_file: bytes.0,
            },
        })
    }

    /// The URL.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Makes the mirror if there is none; what lies in its folder stays there.
    pub(super) fn init(&self) -> anyhow::Result<()> {
        if self.mirror.join("HEAD").exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.mirror)?;
        let mut git = self.git();
        // Whatever the account prefers.
        git.args([
            "-c",
            "init.defaultRefFormat=files",
            "init",
            "--quiet",
            "--bare",
        ]);
        git.args([
            "--initial-branch=main",
            "--object-format=sha1",
            "--template=",
        ]);
        Ok(self.ask(&mut git, b"").map(drop)?)
    }

    /// The branches that the remote shows and whose names end in one of `patterns`, by their full names.
    pub(super) fn list(&self, patterns: &[String]) -> Result<Vec<(String, ObjectId)>, Refusal> {
        let mut git = self.git();
        // With --heads a server that can tells no more than branches.
        git.args(["ls-remote", "--heads", "--refs", "--", &self.url]);
        let ended = self.ask(git.args(patterns), b"")?;
        let output = String::from_utf8_lossy(&ended.stdout);
        let refs = output.lines().map(|line| {
            let (id, name) = line.split_once('\t')?;
            Some((name.to_owned(), id.parse().ok()?))
        });
        refs.collect::<Option<_>>().ok_or_else(|| {
            let why = "its object ids are not those of object format sha1";
            self.refusal(Code::RepositoryUnsupported, &[why])
        })
    }

    /// Fetches the branches `names` into those of the mirror, wherever they were: all or none.
    pub(super) fn fetch(&self, names: &[&str]) -> Result<(), Refusal> {
        let mut git = self.git();
        git.args([
            "fetch",
            "--quiet",
            "--atomic",
            "--no-tags",
            "--no-prune",
            "--no-prune-tags",
            // Nobody reads that file.
            "--no-write-fetch-head",
            // The repository names no other that would be fetched from.
            "--no-recurse-submodules",
            "--no-show-forced-updates",
            "--no-auto-maintenance",
            "--stdin",
            "--",
            &self.url,
        ]);
        let specs: String = names
            .iter()
            .map(|name| format!("+{name}:{name}\n"))
            .collect();
        self.ask(&mut git, specs.as_bytes()).map(drop)
    }

    /// Pushes `updates`, all or none; says what became of it, and what was said on standard error.
    pub(super) fn push(&self, updates: &[RefUpdate]) -> Result<(Pushed, String), Refusal> {
        let mut git = self.git();
        git.args([
            "push",
            "--porcelain",
            "--atomic",
            "--no-verify",
            "--no-follow-tags",
            "--no-signed",
            "--recurse-submodules=no",
            // The leases below say exactly what is expected; there are no tracking branches to look at.
            "--no-force-if-includes",
        ]);
        for update in updates {
            let expected = update.expected.map(|id| id.to_string()).unwrap_or_default();
            git.arg(format!("--force-with-lease={}:{expected}", update.name));
        }
        git.args(["--", &self.url]);
        for update in updates {
            let new = update.new.map(|id| id.to_string()).unwrap_or_default();
            git.arg(format!("{new}:{}", update.name));
        }
        let ended = self.run(&mut git, b"", self.bounds)?;
        let End::Exited(status) = ended.end else {
            return Err(self.cut_short(ended.end));
        };
        let pushed = Pushed::parse(status.success(), &String::from_utf8_lossy(&ended.stdout));
        Ok((pushed, gist(&ended.stderr)))
    }

    /// Has git pack the mirror if there is much to pack. What goes wrong is left for the next time.
    pub(super) fn collect_garbage(&self) {
        let bounds = Bounds {
            deadline: GARBAGE_DEADLINE,
            max_file: u64::MAX,
        };
        let _ = self.run(self.git().args(["gc", "--auto", "--quiet"]), b"", bounds);
    }

    /// git in the mirror, as every run of it is set up.
    fn git(&self) -> Command {
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(&self.mirror);
        for setting in CONFIG {
            git.args(["-c", setting]);
        }
        for variable in FOREIGN {
            git.env_remove(variable);
        }
        git.current_dir(&self.mirror)
            // What git says is parsed and compared.
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", "https:ssh:file")
            .env("GIT_TERMINAL_PROMPT", "0");
        // Whoever has an ssh command of his own has said there what may be asked.
        let own = |name| std::env::var_os(name).is_some();
        if !own("GIT_SSH_COMMAND") && !own("GIT_SSH") && !self.has_ssh_command() {
            git.env("GIT_SSH_COMMAND", SSH);
        }
        git
    }

    /// Says whether the account's configuration names an ssh command.
    fn has_ssh_command(&self) -> bool {
        if !is_ssh(&self.url) {
            return true; // none is run
        }
        let mut git = Command::new("git");
        git.current_dir(&self.mirror)
            .args(["config", "core.sshCommand"]);
        let found = self.run(&mut git, b"", self.bounds);
        found.is_ok_and(|found| !found.stdout.is_empty())
    }

    /// Runs git and expects exit code 0.
    fn ask(&self, git: &mut Command, input: &[u8]) -> Result<Ended, Refusal> {
        let ended = self.run(git, input, self.bounds)?;
        let End::Exited(status) = ended.end else {
            return Err(self.cut_short(ended.end));
        };
        if status.success() {
            return Ok(ended);
        }
        let said = gist(&ended.stderr);
        // The kernel ends what writes a file beyond the limit. It is index-pack, of whose death git does not say.
        if holds_part_of(&self.mirror, self.bounds.max_file) {
            let why = format!("more than {} bytes", self.bounds.max_file);
            return Err(self.refusal(Code::FetchTooBig, &[&why]));
        }
        Err(self.refusal(Code::FetchFailed, &[&said]))
    }

    fn run(&self, git: &mut Command, input: &[u8], bounds: Bounds) -> Result<Ended, Refusal> {
        let ran = bounded::run(git, input, &bounds);
        ran.map_err(|error| self.refusal(Code::FetchFailed, &[&format!("cannot run git: {error}")]))
    }

    /// Says why git did not end by itself.
    fn cut_short(&self, end: End) -> Refusal {
        match end {
            End::TooLong => self.refusal(Code::FetchTooBig, &["it shows too many branches"]),
            End::Interrupted => self.refusal(Code::Interrupted, &["ended by a signal"]),
            End::Late | End::Exited(_) => {
                let why = format!("no answer within {:?}", self.bounds.deadline);
                self.refusal(Code::FetchTimeout, &[&why])
            }
        }
    }

    /// Refuses with `code`, the URL and those of `parts` that say something.
    pub(super) fn refusal(&self, code: Code, parts: &[&str]) -> Refusal {
        let parts: Vec<_> = parts
            .iter()
            .copied()
            .filter(|part| !part.is_empty())
            .collect();
        Refusal::new(code, format!("'{}': {}", self.url, parts.join("; ")))
    }
}

/// What git said on standard error, on one line: its end, without hints. [`Refusal`] escapes it.
fn gist(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.split(['\n', '\r']).map(str::trim);
    let lines: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .collect();
    let said = lines.join("; ");
    let from = said.len().saturating_sub(SHOWN);
    let from = (from..said.len()).find(|at| said.is_char_boundary(*at));
    said[from.unwrap_or(0)..].to_owned()
}

/// Says whether a fetch that was cut off left `bytes` bytes of a pack in the mirror at `path`.
fn holds_part_of(path: &Path, bytes: u64) -> bool {
    let entries = std::fs::read_dir(path.join("objects/pack")).into_iter();
    entries.flatten().flatten().any(|entry| {
        let is_part = entry.file_name().to_string_lossy().starts_with("tmp_");
        is_part && entry.metadata().is_ok_and(|file| file.len() >= bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_answer_the_end_is_shown() {
        let long = format!("hint: read this\n{}\r\nfatal: no", "ä".repeat(SHOWN));
        let said = gist(long.as_bytes());
        assert!(
            said.len() <= SHOWN && said.ends_with("ä; fatal: no"),
            "{said}"
        );
    }
}
