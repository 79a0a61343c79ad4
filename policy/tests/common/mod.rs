//! A fleet in a temporary folder: keys, an author's clone and the bare repository whose hooks run the built `policy`.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use policy::admit::{Admitter, Pass};
use policy::repository::Repository;
use policy::settings::Folder;
use state::Refusal;
use state::digest::Sha256Hash;
use tempfile::TempDir;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The standard output, trimmed, of a program that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout.trim().to_owned()
    }

    /// Asserts a refusal with `code` and a remedy beside it.
    #[track_caller]
    pub fn refused(self, code: &str) -> Self {
        assert_ne!(self.code, 0, "expected {code}: {self:#?}");
        assert!(
            self.says(code) && self.says("remedy: "),
            "expected {code}: {self:#?}"
        );
        self
    }

    /// Asserts that it failed for the reason `why`, which is no refusal of content.
    #[track_caller]
    pub fn failed(self, why: &str) -> Self {
        assert_eq!(self.code, 2, "expected '{why}': {self:#?}");
        assert!(self.says(why), "expected '{why}': {self:#?}");
        self
    }

    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

/// Runs `program` in `folder` with nothing of the caller's environment but PATH, and with stock git configuration.
pub fn run(program: &str, folder: &Path, args: &[&str]) -> Outcome {
    let output = command(program, folder).args(args).output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What [`run`] runs.
pub fn command(program: &str, folder: &Path) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_policy")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "author")
        .env("GIT_AUTHOR_EMAIL", "author@example.org")
        .env("GIT_COMMITTER_NAME", "author")
        .env("GIT_COMMITTER_EMAIL", "author@example.org")
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

/// The fleet; gone when the value is dropped.
pub struct Fleet {
    dir: TempDir,
}

/// A service without source that could be fetched; nothing here deploys it.
pub const SERVICE: &str = "source: { repository: https://git.example.org/web.git, branch: main }\nrun: { command: [ ./web ] }\n";

impl Fleet {
    /// A fleet whose environment `dev` has these rules, and the services `names` pinned to commit 1; all admitted.
    pub fn new(rules: &str, names: &[&str]) -> Self {
        let fleet = Self::unserved(rules);
        for name in names {
            fleet.write(&format!("services/{name}/service.yaml"), SERVICE);
            fleet.pin(name, 1);
        }
        if !names.is_empty() {
            fleet.commit("Add services");
        }
        fleet.serve();
        fleet
    }

    /// The author's clone and the keys, before there is a repository to push to.
    pub fn unserved(rules: &str) -> Self {
        let fleet = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let rules_file = fleet.path("template/environments/dev/environment.yaml");
        std::fs::create_dir_all(rules_file.parent().unwrap()).unwrap();
        std::fs::write(rules_file, rules).unwrap();
        let init = [
            "init",
            "--demo-keys",
            "--name",
            "acme",
            "--from",
            "template",
            "state",
        ];
        fleet.policy(&init).ok();
        fleet
    }

    /// Makes the bare repository and pushes to it.
    pub fn serve(&self) {
        run(
            "git",
            self.dir.path(),
            &["init", "-q", "--bare", "-b", "main", "state.git"],
        )
        .ok();
        self.policy(&["hook", "install", "state.git", "--key", "keys/policy"])
            .ok();
        self.git(&["remote", "add", "origin", "../state.git"]).ok();
        self.git(&["push", "-q", "origin", "trust"]).ok();
        self.git(&["push", "-q", "-u", "origin", "main"]).ok();
    }

    /// Makes the bare repository without our hooks, as a forge has it, and pushes to it.
    pub fn host(&self) {
        let init = ["init", "-q", "--bare", "-b", "main", "state.git"];
        run("git", self.dir.path(), &init).ok();
        self.git(&["remote", "add", "origin", "../state.git"]).ok();
        self.git(&["push", "-q", "origin", "trust"]).ok();
        self.git(&["push", "-q", "-u", "origin", "main"]).ok();
    }

    /// Where that is hosted.
    pub fn url(&self) -> String {
        format!("file://{}", self.path("state.git").display())
    }

    /// Switches the hooks off, so that a push is neither judged nor admitted.
    pub fn without_hooks(&self) {
        std::fs::rename(self.path("state.git/hooks"), self.path("hooks")).unwrap();
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Runs `policy` in the fleet's folder.
    pub fn policy(&self, args: &[&str]) -> Outcome {
        run("policy", self.dir.path(), args)
    }

    /// Runs `policy` in the author's clone.
    pub fn author(&self, args: &[&str]) -> Outcome {
        run("policy", &self.path("state"), args)
    }

    /// Runs git in the author's clone.
    pub fn git(&self, args: &[&str]) -> Outcome {
        run("git", &self.path("state"), args)
    }

    /// Runs git in the served repository.
    pub fn served(&self, args: &[&str]) -> Outcome {
        run("git", &self.path("state.git"), args)
    }

    /// Writes a file of the author's clone.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path("state").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Pins `name` in `dev` to a commit of 40 times `digit`.
    pub fn pin(&self, name: &str, digit: u8) {
        let commit = digit.to_string().repeat(40);
        let path = format!("environments/dev/{name}.yaml");
        self.write(&path, &format!("source: {{ commit: \"{commit}\" }}\n"));
    }

    /// Commits everything, signed by the author.
    pub fn commit(&self, message: &str) {
        self.git(&["add", "-A"]).ok();
        self.git(&["commit", "-q", "-m", message]).ok();
    }

    pub fn push(&self) -> Outcome {
        self.git(&["push", "-q", "origin", "main"])
    }

    /// Takes back what was refused.
    pub fn reset(&self) {
        self.git(&["reset", "-q", "--hard", "origin/main"]).ok();
        self.git(&["clean", "-qfd"]).ok();
    }

    /// Commits and pushes `text` at `path`, expects the refusal `code`, and that nothing moved; then takes it back.
    #[track_caller]
    pub fn refuses(&self, path: &str, text: &str, code: &str) {
        let before = self.refs();
        self.write(path, text);
        self.commit("Break it");
        self.push().refused(code);
        assert_eq!(self.refs(), before, "after {code}");
        self.reset();
    }

    /// What the served repository's branches point at.
    pub fn refs(&self) -> String {
        self.served(&["for-each-ref"]).ok()
    }

    /// The content of a file of the branch `admitted`.
    pub fn admitted(&self, path: &str) -> Outcome {
        self.served(&["show", &format!("admitted:{path}")])
    }

    /// Says whether `name` is admitted in `dev` at the commit of 40 times `digit`.
    pub fn admits(&self, name: &str, digit: u8) -> bool {
        let release = self.admitted(&format!("releases/dev/{name}.yaml")).stdout;
        release.contains(&digit.to_string().repeat(40))
    }

    /// The sequence of the last admission.
    #[track_caller]
    pub fn sequence(&self) -> u64 {
        self.said("sequence: ").parse().unwrap()
    }

    /// The value of a line of the last manifest.
    #[track_caller]
    pub fn said(&self, key: &str) -> String {
        let manifest = self.admitted("manifest").ok();
        let line = manifest.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().to_owned()
    }

    /// One pass of policy over the served repository at some other time than now.
    pub fn pass(&self, now: Timestamp) -> Result<Pass, Refusal> {
        let path = self.path("state.git");
        let (repository, folder) = (Repository::served(&path).unwrap(), Folder::of(&path));
        let key = folder.key(None).unwrap();
        let admitter = Admitter {
            repository: &repository,
            folder: &folder,
            key: &key,
        };
        admitter.pass(now)
    }

    /// The lines of a trust file by which root vouches for the last admission, and the hash of its manifest.
    pub fn anchor(&self, next: u64) -> (String, String) {
        let manifest = self.served(&["show", "admitted:manifest"]).stdout;
        let hash = Sha256Hash::of(manifest.as_bytes()).to_string();
        let (sequence, author) = (self.sequence(), self.said("author: "));
        let payload = author.split(' ').nth(1).unwrap();
        let anchor = format!(
            "anchor: {{ sequence: {sequence}, manifest: \"sha256:{hash}\", next: {next}, main: \"sha256:{payload}\" }}\n"
        );
        (anchor, hash)
    }

    /// Publishes trust version 2 from the author's clone: it replaces the policy key by `keys/second` and says `extra`
    /// beside that.
    pub fn replace_policy_key(&self, last_sequence: u64, extra: &str) {
        let here = self.path("");
        let keygen = |args: &[&str]| run("ssh-keygen", &here, args).ok();
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", "keys/second"]);
        let public = |name: &str| {
            let line = std::fs::read_to_string(self.path(&format!("keys/{name}.pub"))).unwrap();
            line.split(' ').take(2).collect::<Vec<_>>().join(" ")
        };
        let first = self.git(&["show", "trust:1.yaml"]).stdout;
        let hash = Sha256Hash::of(first.as_bytes());
        let version = format!("version: 2\nprev: sha256:{hash}\n");
        let second = first
            .replace("version: 1\n", &version)
            .replace(public("policy").trim(), public("second").trim());
        let print = keygen(&["-l", "-f", "keys/policy.pub"]);
        let print = print.split(' ').nth(1).unwrap();
        let ended = format!(
            "ended: [ {{ key: \"{print}\", lastSequence: {last_sequence}, reason: stolen }} ]\n"
        );
        std::fs::write(self.path("2.yaml"), second + &ended + extra).unwrap();
        let sign = ["-q", "-Y", "sign", "-n", "trust@writ", "-f"];
        keygen(&[&sign[..], &["keys/root", "2.yaml"]].concat());
        self.git(&["switch", "-q", "trust"]).ok();
        std::fs::copy(self.path("2.yaml"), self.path("state/2.yaml")).unwrap();
        std::fs::copy(self.path("2.yaml.sig"), self.path("state/2.sig")).unwrap();
        self.commit("Trust version 2");
        self.git(&["switch", "-q", "main"]).ok();
        self.git(&["push", "-q", "origin", "trust"]).ok();
    }
}

/// Publishes trust version 2, in which `keys/second` is a policy key too.
pub fn second_trust(fleet: &Fleet) {
    let here = fleet.path("");
    let keygen = |args: &[&str]| run("ssh-keygen", &here, args).ok();
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", "keys/second"]);
    let public = |name: &str| {
        let line = std::fs::read_to_string(fleet.path(&format!("keys/{name}.pub"))).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    let first = fleet.git(&["show", "trust:1.yaml"]).stdout;
    std::fs::write(fleet.path("1.yaml"), &first).unwrap();
    let hash = run("sha256sum", &here, &["1.yaml"]).ok();
    let version = format!("version: 2\nprev: sha256:{}\n", &hash[..64]);
    let key = format!("\"{}\"", public("policy"));
    let keys = format!("{key}, \"{}\"", public("second"));
    let second = first.replace("version: 1\n", &version).replace(&key, &keys);
    std::fs::write(fleet.path("2.yaml"), second).unwrap();
    fleet
        .policy(&["trust", "sign", "2.yaml", "--key", "keys/root"])
        .ok();
    fleet.git(&["switch", "-q", "trust"]).ok();
    for name in ["2.yaml", "2.sig"] {
        std::fs::copy(fleet.path(name), fleet.path("state").join(name)).unwrap();
    }
    fleet.commit("Trust version 2");
    fleet.git(&["switch", "-q", "main"]).ok();
    fleet.git(&["push", "-q", "origin", "trust"]).ok();
}
