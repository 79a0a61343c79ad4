//! A small fleet: its keys, its four branches, and a policy of a hundred lines that signs whatever a test tells it to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use state::digest::{Domain, ObjectId, Sha256Hash};
use state::floor::Floor;
use state::freshness::Freshness;
use state::git::{Git, Kind, RefUpdate};
use state::key::{PublicKey, SigningKey};
use state::manifest::{Change, Link, Manifest, Subject};
use state::name::{EnvironmentName, ServiceName};
use state::release::{Origin, Release};
use state::sshsig::{self, Namespace};
use state::tree::{self, Files, Limits, Objects};
use state::trust::Trust;
use state::unit::Bytes;
use state::verify::{self, HostIdentity, Intake, Tips, Verified};
use state::{Code, Refusal, admitted, commit, render};

/// When the fleet was founded; the manifest of sequence N is issued N minutes later.
pub(crate) const START: Timestamp = Timestamp::constant(1_795_000_000, 0);

/// `minutes` after the fleet was founded.
pub(crate) fn at(minutes: i64) -> Timestamp {
    START + SignedDuration::from_mins(minutes)
}

/// The verdicts of [`verify::releases`].
pub(crate) type Releases = BTreeMap<ServiceName, Result<Verified<Release>, Refusal>>;

/// A repository with a work tree on `main`, beside the keys of all who write it.
pub(crate) struct Fleet {
    folder: tempfile::TempDir,
    pub(crate) policy: SigningKey,
    pub(crate) domain: Domain,
    last: Link,
    admitted: ObjectId,
    files: Files,
}

/// A manifest and its tree, before policy signs and writes them.
pub(crate) struct Draft {
    pub(crate) manifest: Manifest,
    pub(crate) files: Files,
    /// Further files of the commit's tree that the manifest does not know.
    pub(crate) smuggled: Files,
    pub(crate) namespace: Namespace,
    pub(crate) parents: Vec<ObjectId>,
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

    /// The text of a trust file: two root keys of which both must sign, one policy key, alice for everything and a CI
    /// key for pins of `web`.
    pub(crate) fn trust_file(&self, version: u64, prev: Option<Sha256Hash>, more: &str) -> String {
        let key = |name: &str| {
            let line = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
            line.trim().to_owned()
        };
        let prev = prev.map_or(String::new(), |hash| format!("prev: sha256:{hash}\n"));
        let (root1, root2, alice, ci) = (key("root1"), key("root2"), key("alice"), key("ci"));
        let policy = self.policy.public();
        format!(
            r#"writ: trust/1
name: acme
version: {version}
{prev}expires: 2030-01-01T00:00:00Z
root: {{ threshold: 2, keys: [ "{root1}", "{root2}" ] }}
policy: {{ keys: [ "{policy}" ], maxFreshness: 24h }}
authors:
  - {{ name: alice, key: "{alice}", environments: [ "*" ], paths: [ "**" ], may: [ author, rules ] }}
  - {{ name: web-ci, key: "{ci}", environments: [ prod ], paths: [ "environments/*/web.yaml" ], fields: [ source.commit ], may: [ author ] }}
{more}"#
        )
    }

    /// Replaces the branch `trust` by these versions, each signed by these keys with ssh-keygen.
    pub(crate) fn publish_trust(&self, versions: &[(u64, &str, &[&str])]) {
        let mut files = Files::new();
        for (version, text, signers) in versions {
            let mut signatures = String::new();
            for signer in *signers {
                let file = self.path("trust.yaml");
                std::fs::write(&file, text).unwrap();
                self.run(
                    "ssh-keygen",
                    &[
                        "-q",
                        "-Y",
                        "sign",
                        "-n",
                        "trust@writ",
                        "-f",
                        signer,
                        "trust.yaml",
                    ],
                );
                let signature = self.path("trust.yaml.sig");
                signatures += &std::fs::read_to_string(&signature).unwrap();
                std::fs::remove_file(signature).unwrap();
            }
            files.insert(format!("{version}.yaml"), text.as_bytes().into());
            files.insert(format!("{version}.sig"), signatures.as_bytes().into());
        }
        let commit = self.commit_files(&files, &[]);
        self.move_branch("trust", &commit);
    }

    /// Publishes trust 2 after trust 1, with `more` lines.
    pub(crate) fn publish_second_trust(&self, more: &str) {
        let first = self.trust_file(1, None, "");
        let second = self.trust_file(2, Some(Sha256Hash::of(first.as_bytes())), more);
        let both: &[&str] = &["root1", "root2"];
        self.publish_trust(&[(1, &first, both), (2, &second, both)]);
    }

    /// Publishes trust 2 after the trust 1 that is published, under the policy key of now.
    pub(crate) fn publish_second_trust_from_first(&self, more: &str) {
        let first = self.git_as("alice", &["show", "trust:1.yaml"]) + "\n";
        let hash = Sha256Hash::of(first.as_bytes());
        assert_eq!(hash.0, self.domain.0);
        let both: &[&str] = &["root1", "root2"];
        self.publish_trust(&[
            (1, &first, both),
            (2, &self.trust_file(2, Some(hash), more), both),
        ]);
    }

    /// Publishes a trust 2 without the key of CI, which ended after `last`.
    pub(crate) fn end_ci(&self, last: u64) {
        let first = self.trust_file(1, None, "");
        let second = self.trust_file(
            2,
            Some(Sha256Hash::of(first.as_bytes())),
            &self.ended("ci", last),
        );
        let kept = second.lines().filter(|line| !line.contains("web-ci"));
        let second = kept.map(|line| format!("{line}\n")).collect::<String>();
        let both: &[&str] = &["root1", "root2"];
        self.publish_trust(&[(1, &first, both), (2, &second, both)]);
    }

    /// The lines of a trust file that end the key `name`.
    fn ended(&self, name: &str, last: u64) -> String {
        let line = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        let key: PublicKey = line.trim().parse().unwrap();
        ended(&key, last)
    }

    /// Gives policy a new key in trust 2 and ends the one that it had after `last`.
    pub(crate) fn rotate_policy(&mut self, last: u64) {
        let old = self.policy.public().clone();
        self.policy = SigningKey::generate();
        self.publish_second_trust_from_first(&ended(&old, last));
    }

    /// The trust file in force.
    pub(crate) fn newest_trust(&self) -> Trust {
        let tip = self.git().require("refs/heads/trust").unwrap();
        verify::Chain::read(&self.git(), &tip, &self.domain)
            .unwrap()
            .newest()
            .clone()
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

    /// Admits the tip of `main`: everything that it renders to, judged by no rule.
    pub(crate) fn admit(&mut self) -> Manifest {
        self.admit_edited(|_| {})
    }

    /// Admits the tip of `main` after `edit` has had its way with the manifest and the tree.
    pub(crate) fn admit_edited(&mut self, edit: impl FnOnce(&mut Draft)) -> Manifest {
        let mut draft = self.draft();
        edit(&mut draft);
        self.admit_drafted(draft)
    }

    /// Signs a manifest and puts it with its tree on the branch `admitted`.
    pub(crate) fn admit_drafted(&mut self, draft: Draft) -> Manifest {
        let text = draft.manifest.print();
        let signature = sshsig::sign(&self.policy, draft.namespace, text.as_bytes());
        self.last = draft.manifest.link();
        self.files = draft.files.clone();
        let mut files = draft.files;
        files.extend(draft.smuggled);
        files.insert(admitted::MANIFEST.into(), text.into_bytes().into());
        files.insert(admitted::SIGNATURE.into(), signature.into_bytes().into());
        self.admitted = self.commit_files(&files, &draft.parents);
        self.move_branch("admitted", &self.admitted);
        let tip = self.last;
        self.freshen(&tip, self.last.issued);
        draft.manifest
    }

    /// What an honest policy would sign now.
    pub(crate) fn draft(&self) -> Draft {
        let git = self.git();
        let main = self.main();
        let raw = git.object(Kind::Commit, &main, 1 << 20).unwrap();
        // An attacker's commit need not be in form: its payload is then the commit itself.
        let parsed = commit::Commit::parse(main, &raw);
        let payload = parsed.map_or(state::digest::PayloadHash([0; 32]), |commit| {
            commit.payload_hash()
        });
        let author = Origin {
            commit: main,
            payload,
        };
        let root = commit::Links::parse(&raw).unwrap().tree;
        let limits = Limits {
            files: 1000,
            bytes: Bytes(1 << 20),
        };
        let snapshot = tree::read(&git, &root, &limits).unwrap();
        let rendered = render::all(&snapshot.files, &author).unwrap();
        let mut files = Files::new();
        let mut changes = Vec::new();
        let releases = rendered.releases.values().map(|release| {
            let subject = Subject::Service(release.service.clone());
            (
                release.environment.clone(),
                subject,
                release.id(),
                release.to_yaml(),
            )
        });
        let rules = rendered.rules.values();
        let rules = rules.map(|rules| {
            (
                rules.environment.clone(),
                Subject::Rules,
                rules.id(),
                rules.to_yaml(),
            )
        });
        for (environment, subject, id, text) in releases.chain(rules) {
            let path = admitted::path(&environment, &subject);
            let before = self.files.get(&path);
            let from = before.map(|bytes| id_of(&environment, &subject, bytes));
            if from == Some(id) {
                files.insert(path.clone(), self.files[&path].clone());
                continue;
            }
            let to = Some(id);
            changes.push(Change {
                environment,
                subject,
                from,
                to,
            });
            files.insert(path, text.into_bytes().into());
        }
        for path in self.files.keys().filter(|path| !files.contains_key(*path)) {
            let (environment, subject) = admitted::place(path).unwrap();
            let from = Some(id_of(&environment, &subject, &self.files[path]));
            changes.push(Change {
                environment,
                subject,
                from,
                to: None,
            });
        }
        changes.sort_by(|a, b| a.place().cmp(&b.place()));
        let sequence = self.last.sequence + 1;
        let manifest = Manifest {
            domain: self.domain,
            sequence,
            previous: self.last.hash,
            trust: self.newest_trust().reference(),
            author,
            author_tree: snapshot.id,
            tree: tree::sha256_id(&files),
            changes,
            holds: Vec::new(),
            issued: at(sequence.try_into().unwrap()),
        };
        Draft {
            manifest,
            files,
            smuggled: Files::new(),
            namespace: Namespace::Manifest,
            parents: vec![self.admitted, main],
        }
    }

    /// What the next manifest follows.
    pub(crate) fn last(&self) -> Link {
        self.last
    }

    /// Goes back to where a clone of the branches would be: what comes next is another history.
    pub(crate) fn fork_from(&mut self, admitted: &ObjectId, manifest: &Manifest) {
        let git = self.git();
        let entry = verify::Entry::read(&git, admitted).unwrap();
        let limits = Limits {
            files: 1000,
            bytes: Bytes(1 << 20),
        };
        self.files = tree::read(&git, &entry.tree, &limits).unwrap().files;
        self.files
            .retain(|path, _| !admitted::STATEMENT.contains(&path.as_str()));
        self.last = manifest.link();
        self.admitted = *admitted;
        self.move_branch("admitted", admitted);
        self.freshen(&manifest.link(), manifest.issued);
    }

    /// Signs that `tip` is the newest manifest, for 24 hours from `issued`.
    pub(crate) fn freshen(&self, tip: &Link, issued: Timestamp) {
        self.freshen_edited(tip, issued, |_| {});
    }

    /// Signs that `tip` is the newest manifest after `edit` has had its way with the statement.
    pub(crate) fn freshen_edited(
        &self,
        tip: &Link,
        issued: Timestamp,
        edit: impl FnOnce(&mut Freshness),
    ) {
        let mut statement = Freshness {
            domain: self.domain,
            sequence: tip.sequence,
            manifest: tip.hash,
            issued,
            expires: issued + SignedDuration::from_hours(24),
        };
        edit(&mut statement);
        let text = statement.print();
        let signature = sshsig::sign(&self.policy, Namespace::Freshness, text.as_bytes());
        self.publish_freshness(&text, &signature);
    }

    /// Puts these bytes on the branch `fresh`.
    pub(crate) fn publish_freshness(&self, text: &str, signature: &str) {
        let files = Files::from([
            ("freshness".to_owned(), text.as_bytes().into()),
            ("freshness.sig".to_owned(), signature.as_bytes().into()),
        ]);
        self.move_branch("fresh", &self.commit_files(&files, &[]));
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

/// The lines of a trust file that end `key`.
fn ended(key: &PublicKey, last: u64) -> String {
    let fingerprint = key.fingerprint();
    format!("ended: [ {{ key: \"{fingerprint}\", lastSequence: {last}, reason: rotated }} ]\n")
}

fn id_of(
    environment: &EnvironmentName,
    subject: &Subject,
    bytes: &[u8],
) -> state::digest::ReleaseId {
    match subject {
        Subject::Rules => state::release::Rules::from_yaml(environment.clone(), bytes)
            .unwrap()
            .id(),
        Subject::Service(service) => {
            Release::from_yaml(environment.clone(), service.clone(), bytes)
                .unwrap()
                .id()
        }
    }
}

/// A host of `prod` with its floor, in memory.
pub(crate) struct Host {
    pub(crate) floor: Floor,
    /// How often the floor was made durable.
    pub(crate) persisted: usize,
}

impl Host {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let identity = identity();
        Self {
            floor: Floor::enrolled(fleet.domain, identity.environment, identity.host),
            persisted: 0,
        }
    }

    /// Takes in the fleet's branches at a time when the tip is a few minutes old.
    pub(crate) fn intake(&mut self, fleet: &Fleet) -> Result<Intake, Refusal> {
        self.intake_at(fleet, at(30))
    }

    pub(crate) fn intake_at(&mut self, fleet: &Fleet, now: Timestamp) -> Result<Intake, Refusal> {
        let persisted = &mut self.persisted;
        verify::intake(
            &fleet.git(),
            &fleet.tips(),
            &mut self.floor,
            now,
            &mut |_| {
                *persisted += 1;
                Ok(())
            },
        )
    }

    /// Takes in the branches and judges the releases, none of which is known.
    pub(crate) fn releases(&mut self, fleet: &Fleet) -> Result<Releases, Refusal> {
        let intake = self.intake(fleet)?;
        verify::releases(&fleet.git(), &intake, &identity(), &|_, _, _| false)
    }
}

/// Who the hosts of the tests say they are.
pub(crate) fn identity() -> HostIdentity {
    HostIdentity {
        environment: "prod".parse().unwrap(),
        host: "web-1".parse().unwrap(),
        labels: BTreeMap::new(),
    }
}

/// The code with which a new host refuses the branches.
#[track_caller]
pub(crate) fn refused(fleet: &Fleet) -> Code {
    let refusal = Host::of(fleet).intake(fleet).unwrap_err();
    eprintln!("{refusal}");
    refusal.code
}

/// The code with which a new host, which takes the branches in, refuses `web`.
#[track_caller]
pub(crate) fn web_refused(fleet: &Fleet) -> Code {
    let releases = Host::of(fleet).releases(fleet).unwrap();
    let refusal = releases["web"].as_ref().unwrap_err();
    eprintln!("{refusal}");
    refusal.code
}
