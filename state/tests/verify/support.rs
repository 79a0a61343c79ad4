//! A small fleet: its keys, its four branches, a policy that signs whatever a test tells it to, and a host.

mod host;
mod policy;
mod trust;

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use state::commit;
use state::digest::{Domain, ObjectId, Sha256Hash};
use state::git::{Git, Kind, RefUpdate};
use state::key::SigningKey;
use state::manifest::Link;
use state::tree::{self, Files};
use state::verify::Tips;

pub(crate) use host::{Host, identity, refused, web_refused};
pub(crate) use policy::{Draft, id_of};

/// When the fleet was founded; the manifest of sequence N is issued N minutes later.
pub(crate) const START: Timestamp = Timestamp::constant(1_795_000_000, 0);

/// `minutes` after the fleet was founded.
pub(crate) fn at(minutes: i64) -> Timestamp {
    START + SignedDuration::from_mins(minutes)
}

/// A repository with a work tree on `main`, beside the keys of all who write it.
pub(crate) struct Fleet {
    folder: tempfile::TempDir,
    pub(crate) policy: SigningKey,
    pub(crate) domain: Domain,
    last: Link,
    admitted: ObjectId,
    files: Files,
}

impl Fleet {
    /// Makes keys, trust 1 and a first commit on `main` with one service in `prod`; nothing is admitted.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut fleet = Self {
            policy: SigningKey::generate(),
            domain: Domain([0; 32]),
            last: Link::START,
            admitted: ObjectId([0; 20]),
            files: Files::new(),
            folder,
        };
        for name in ["root1", "root2", "alice", "ci", "eve"] {
            fleet.run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name],
            );
        }
        let trust = fleet.trust_file(1, None, "");
        fleet.domain = Domain(Sha256Hash::of(trust.as_bytes()).0);
        fleet.run("git", &["init", "-q", "-b", "main", "state"]);
        fleet.publish_trust(&[(1, &trust, &["root1", "root2"])]);
        fleet.write(
            "repository.yaml",
            &format!("format: 1\nname: acme\ndomain: {}\n", fleet.domain),
        );
        fleet.write(
            "services/web/service.yaml",
            "source: { repository: https://git.example.org/web.git, branch: main }\nrun: { command: [ ./web ] }\n",
        );
        fleet.write("environments/prod/environment.yaml", "hosts: any\n");
        fleet.pin("web", 1);
        fleet.commit("alice", "the first commit");
        let empty =
            tree::write(&Files::new(), |kind, bytes| fleet.git().write(kind, bytes)).unwrap();
        let root = commit::unsigned(&empty, &[], "The log begins", START);
        fleet.admitted = fleet.git().write(Kind::Commit, &root).unwrap();
        fleet
    }

    /// A fleet with `count` admissions, each of a new pin of `web`.
    pub(crate) fn with_admissions(count: u8) -> Self {
        let mut fleet = Self::new();
        fleet.admit();
        for version in 2..=count {
            fleet.pin("web", version);
            fleet.commit("alice", "a new version");
            fleet.admit();
        }
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn git(&self) -> Git {
        Git::open(&self.path("state")).unwrap()
    }

    /// Runs a program in the fleet's folder and returns what it printed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        self.run_in(self.folder.path(), program, args)
    }

    /// Runs git in the work tree, with the signing key of `signer` for commits.
    pub(crate) fn git_as(&self, signer: &str, args: &[&str]) -> String {
        let key = format!("user.signingKey={}", self.path(signer).display());
        let mut all = vec![
            "-c",
            "gpg.format=ssh",
            "-c",
            &key,
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
        ];
        all.extend(args);
        self.run_in(&self.path("state"), "git", &all)
    }

    fn run_in(&self, folder: &Path, program: &str, args: &[&str]) -> String {
        let done = Command::new(program)
            .args(args)
            .current_dir(folder)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {args:?}: {error}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Writes a file of the work tree.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path("state").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes the overlay of `service` in `prod` with a pin of its own for each `version`.
    pub(crate) fn pin(&self, service: &str, version: u8) {
        let text = format!("source: {{ commit: \"{}\" }}\n", ObjectId([version; 20]));
        self.write(&format!("environments/prod/{service}.yaml"), &text);
    }

    /// Commits the work tree, signed by `signer` with stock git, and returns the commit.
    pub(crate) fn commit(&self, signer: &str, message: &str) -> ObjectId {
        self.git_as(signer, &["add", "-A"]);
        self.git_as(
            signer,
            &["commit", "-q", "-S", "--allow-empty", "-m", message],
        );
        self.main()
    }

    /// Commits the work tree, signed by `signer`, with the SHA-256 id of its tree in a trailer.
    pub(crate) fn commit_with_trailer(&self, signer: &str) -> ObjectId {
        self.git_as(signer, &["add", "-A"]);
        let root = self.git_as(signer, &["write-tree"]).parse().unwrap();
        let tree = tree::read(&self.git(), &root, &policy::LIMITS).unwrap().id;
        self.commit(signer, &format!("signed twice\n\nTree-SHA256: {tree}"))
    }

    /// Commits the work tree without a signature.
    pub(crate) fn commit_unsigned(&self) -> ObjectId {
        self.git_as("alice", &["add", "-A"]);
        self.git_as(
            "alice",
            &[
                "commit",
                "-q",
                "--no-gpg-sign",
                "--allow-empty",
                "-m",
                "unsigned",
            ],
        );
        self.main()
    }

    /// The tip of `main`.
    pub(crate) fn main(&self) -> ObjectId {
        self.git().require("refs/heads/main").unwrap()
    }

    /// Writes a commit of `files`, unsigned.
    pub(crate) fn commit_files(&self, files: &Files, parents: &[ObjectId]) -> ObjectId {
        let git = self.git();
        let root = tree::write(files, |kind, bytes| git.write(kind, bytes)).unwrap();
        git.write(
            Kind::Commit,
            &commit::unsigned(&root, parents, "by policy", START),
        )
        .unwrap()
    }

    /// Points a branch somewhere, whatever was there.
    pub(crate) fn move_branch(&self, name: &str, to: &ObjectId) {
        let name = format!("refs/heads/{name}");
        let git = self.git();
        let expected = git.resolve(&name).unwrap();
        let new = Some(*to);
        git.transaction(&[RefUpdate {
            name,
            expected,
            new,
        }])
        .unwrap();
    }

    /// The branches as a host would have fetched them.
    pub(crate) fn tips(&self) -> Tips {
        let git = self.git();
        let [trust, admitted, fresh] = ["trust", "admitted", "fresh"]
            .map(|name| git.require(&format!("refs/heads/{name}")).unwrap());
        Tips {
            trust,
            admitted,
            fresh,
        }
    }
}
