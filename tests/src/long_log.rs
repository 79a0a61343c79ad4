//! A state repository with a long history, made within seconds: in this process, by the functions that policy and the
//! programs use, without a hook, a push or a rule. What it shows is what a real fleet's would.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use state::admitted::{MANIFEST, SIGNATURE, path};
use state::commit;
use state::digest::{Domain, ObjectId, PayloadHash, ReleaseId, Sha256Hash};
use state::freshness::Freshness;
use state::git::{Git, Kind, RefUpdate};
use state::key::{PublicKey, SigningKey};
use state::manifest::{Change, Link, Manifest, Subject, TrustRef};
use state::name::{EnvironmentName, ServiceName};
use state::release::Origin;
use state::render;
use state::sshsig::{self, Namespace};
use state::tree::{self, Files};
use tempfile::TempDir;

use crate::program;

/// The environments; `dev` has rules and no services, for hosts that only look on.
const ENVIRONMENTS: [&str; 2] = ["prod", "staging"];

/// The services of each environment.
const SERVICES: usize = 20;

/// A bare repository on disk, packed, and the keys of those who write it; gone when the value is dropped.
pub struct LongLog {
    dir: TempDir,
    author: SigningKey,
    policy: SigningKey,
    domain: Domain,
    /// The commits of `main`, oldest first.
    pub main: Vec<ObjectId>,
    /// The commits of `admitted` that were made from them, oldest first.
    pub admitted: Vec<ObjectId>,
}

/// What the next admission changes.
struct Writer<'a> {
    git: &'a Git,
    log: &'a LongLog,
    trust: TrustRef,
    start: Timestamp,
    author: Files,
    admitted: Files,
    link: Link,
}

impl LongLog {
    /// Makes a fleet of 20 services in 2 environments and `admissions` admissions, one a minute until now; each but the
    /// first is of one new pin.
    ///
    /// # Errors
    /// When the repository cannot be written, or git cannot pack it.
    pub fn new(admissions: usize) -> Result<Self> {
        ensure!(admissions > 0, "a log has an admission");
        let root = SigningKey::generate();
        let mut log = Self {
            dir: tempfile::Builder::new().prefix("writ-log-").tempdir()?,
            author: SigningKey::generate(),
            policy: SigningKey::generate(),
            domain: Domain([0; 32]),
            main: Vec::new(),
            admitted: Vec::new(),
        };
        let trust = format!(
            "writ: trust/1\nname: long\nversion: 1\nexpires: 2100-01-01T00:00:00Z\n\
             root: {{ threshold: 1, keys: [ \"{}\" ] }}\n\
             policy: {{ keys: [ \"{}\" ], maxFreshness: 24h }}\n\
             authors:\n  - {{ name: author, key: \"{}\", environments: [ \"*\" ], paths: [ \"**\" ], may: [ author, rules ] }}\n",
            root.public(),
            log.policy.public(),
            log.author.public()
        );
        let sha256 = Sha256Hash::of(trust.as_bytes());
        log.domain = Domain(sha256.0);
        let git = Git::init_bare(&log.repository())?;
        let signature = sshsig::sign(&root, Namespace::Trust, trust.as_bytes());
        let trust_tip = commit_files(
            &git,
            &Files::from([
                ("1.yaml".to_owned(), trust.into_bytes().into()),
                ("1.sig".to_owned(), signature.into_bytes().into()),
            ]),
            &[],
            Timestamp::UNIX_EPOCH,
        )?;
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let minutes = i64::try_from(admissions)?;
        let mut writer = Writer {
            git: &git,
            trust: TrustRef { version: 1, sha256 },
            start: now - SignedDuration::from_mins(minutes),
            author: first_files(&log.domain),
            admitted: Files::new(),
            link: Link::START,
            log: &log,
        };
        let mut main: Vec<ObjectId> = Vec::new();
        let mut admitted = vec![commit_files(&git, &Files::new(), &[], writer.start)?];
        for number in 0..admissions {
            let changed = (number > 0).then(|| writer.pin(number)).transpose()?;
            let (author, commit) = writer.commit(main.last())?;
            let entry = writer.admit(changed, &author, [admitted[number], commit])?;
            main.push(commit);
            admitted.push(entry);
        }
        let fresh = writer.freshness(now)?;
        let tips = [
            ("main", main[main.len() - 1]),
            ("trust", trust_tip),
            ("admitted", admitted[admissions]),
            ("fresh", fresh),
        ];
        git.transaction(&tips.map(|(name, tip)| RefUpdate {
            name: format!("refs/heads/{name}"),
            expected: None,
            new: Some(tip),
        }))?;
        admitted.remove(0);
        (log.main, log.admitted) = (main, admitted);
        log.git(&["repack", "-q", "-a", "-d"])?;
        Ok(log)
    }

    /// The bare repository.
    pub fn repository(&self) -> PathBuf {
        self.dir.path().join("state.git")
    }

    /// The folder that it lies in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What hosts are enrolled with.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The keys of author and policy.
    pub fn keys(&self) -> [&PublicKey; 2] {
        [self.author.public(), self.policy.public()]
    }

    /// Runs git in the repository.
    ///
    /// # Errors
    /// When git fails.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        let mut git = program::command("git", self.dir.path());
        let outcome = program::run(git.args(args).current_dir(self.repository()));
        ensure!(outcome.code == 0, "git {args:?}: {}", outcome.stderr);
        Ok(outcome.stdout)
    }

    /// A copy of the commit `id` that policy signed as authors sign: for a peer that knows no other signatures.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn signed_twin(&self, id: &ObjectId) -> Result<ObjectId> {
        let git = Git::open(&self.repository())?;
        let raw = tree::Objects::object(&git, Kind::Commit, id, commit::MAX_BYTES)?;
        let signed = signed(&self.policy, str::from_utf8(&raw)?)?;
        Ok(git.write(Kind::Commit, signed.as_bytes())?)
    }
}

impl Writer<'_> {
    fn at(&self, sequence: u64) -> Result<Timestamp> {
        Ok(self.start + SignedDuration::from_mins(sequence.try_into()?))
    }

    /// Pins one service to another commit; says which.
    fn pin(&mut self, number: usize) -> Result<(EnvironmentName, ServiceName)> {
        let environment = ENVIRONMENTS[number % ENVIRONMENTS.len()];
        let service = service(number / ENVIRONMENTS.len() % SERVICES);
        let file = format!("environments/{environment}/{service}.yaml");
        self.author.insert(file, overlay(number));
        Ok((environment.parse()?, service.parse()?))
    }

    /// Commits the author's files, signed by the author.
    fn commit(&self, parent: Option<&ObjectId>) -> Result<(Origin, ObjectId)> {
        let time = self.at(self.link.sequence)?;
        let root = tree::write(&self.author, |kind, bytes| self.git.write(kind, bytes))?;
        let parents: Vec<ObjectId> = parent.into_iter().copied().collect();
        let payload = String::from_utf8(commit::unsigned(&root, &parents, "A new version", time))?;
        let raw = signed(&self.log.author, &payload)?;
        let commit = self.git.write(Kind::Commit, raw.as_bytes())?;
        let payload = PayloadHash(Sha256Hash::of(payload.as_bytes()).0);
        Ok((Origin { commit, payload }, commit))
    }

    /// Admits what `changed`, or at first everything.
    fn admit(
        &mut self,
        changed: Option<(EnvironmentName, ServiceName)>,
        author: &Origin,
        parents: [ObjectId; 2],
    ) -> Result<ObjectId> {
        let mut changes = Vec::new();
        match changed {
            Some((environment, service)) => {
                let before = render_id(&self.admitted, &environment, &service)?;
                let release = render::one(&self.author, &environment, &service, author)?;
                let subject = Subject::Service(service);
                self.admit_one(&environment, &subject, release.to_yaml());
                changes.push(Change {
                    environment,
                    subject,
                    from: Some(before),
                    to: Some(release.id()),
                });
            }
            None => {
                let rendered = render::all(&self.author, author)
                    .map_err(|refusals| anyhow::anyhow!("{refusals:?}"))?;
                let rules = rendered.rules.values().map(|rules| {
                    let id = rules.id();
                    (
                        rules.environment.clone(),
                        Subject::Rules,
                        rules.to_yaml(),
                        id,
                    )
                });
                let releases = rendered.releases.values().map(|release| {
                    let subject = Subject::Service(release.service.clone());
                    let id = release.id();
                    (release.environment.clone(), subject, release.to_yaml(), id)
                });
                for (environment, subject, text, id) in rules.chain(releases) {
                    self.admit_one(&environment, &subject, text);
                    changes.push(Change {
                        environment,
                        subject,
                        from: None,
                        to: Some(id),
                    });
                }
                changes.sort_by(|a, b| a.place().cmp(&b.place()));
            }
        }
        let sequence = self.link.sequence + 1;
        let manifest = Manifest {
            domain: self.log.domain,
            sequence,
            previous: self.link.hash,
            trust: self.trust,
            author: author.clone(),
            author_tree: tree::sha256_id(&self.author),
            tree: tree::sha256_id(&self.admitted),
            changes,
            holds: Vec::new(),
            issued: self.at(sequence)?,
        };
        self.link = manifest.link();
        let text = manifest.print();
        let signature = sshsig::sign(&self.log.policy, Namespace::Manifest, text.as_bytes());
        let mut files = self.admitted.clone();
        files.insert(MANIFEST.to_owned(), text.into_bytes().into());
        files.insert(SIGNATURE.to_owned(), signature.into_bytes().into());
        commit_files(self.git, &files, &parents, manifest.issued)
    }

    fn admit_one(&mut self, environment: &EnvironmentName, subject: &Subject, text: String) {
        let file = path(environment, subject);
        self.admitted.insert(file, text.into_bytes().into());
    }

    fn freshness(&self, now: Timestamp) -> Result<ObjectId> {
        let text = Freshness {
            domain: self.log.domain,
            sequence: self.link.sequence,
            manifest: self.link.hash,
            issued: now,
            expires: now + SignedDuration::from_hours(24),
        }
        .print();
        let signature = sshsig::sign(&self.log.policy, Namespace::Freshness, text.as_bytes());
        let files = Files::from([
            ("freshness".to_owned(), text.into_bytes().into()),
            ("freshness.sig".to_owned(), signature.into_bytes().into()),
        ]);
        commit_files(self.git, &files, &[], now)
    }
}

/// The id of the release that is admitted.
fn render_id(
    admitted: &Files,
    environment: &EnvironmentName,
    service: &ServiceName,
) -> Result<ReleaseId> {
    let file = path(environment, &Subject::Service(service.clone()));
    let bytes = admitted.get(&file).context("an admitted release")?;
    let release = state::release::Release::from_yaml(environment.clone(), service.clone(), bytes)?;
    Ok(release.id())
}

fn service(number: usize) -> String {
    format!("service-{number}")
}

/// An overlay that pins a commit of its own for each `number`.
fn overlay(number: usize) -> std::sync::Arc<[u8]> {
    let pin = &Sha256Hash::of(&number.to_be_bytes()).to_string()[..40];
    let text =
        format!("source: {{ commit: \"{pin}\" }}\nrun: {{ environment: {{ RUST_LOG: info }} }}\n");
    text.into_bytes().into()
}

/// What `main` begins with.
fn first_files(domain: &Domain) -> Files {
    let mut files = Files::new();
    let mut add = |path: String, text: String| {
        files.insert(path, text.into_bytes().into());
    };
    add(
        "repository.yaml".to_owned(),
        format!("format: 1\nname: long\ndomain: \"{domain}\"\n"),
    );
    for environment in ["dev", "prod", "staging"] {
        let file = format!("environments/{environment}/environment.yaml");
        add(file, "hosts: any\n".to_owned());
    }
    for number in 0..SERVICES {
        let name = service(number);
        let base = format!(
            "source: {{ repository: \"https://git.example.org/{name}.git\", branch: main }}\n\
             build:\n  steps: [ {{ run: [ cargo, build, --release, --locked, --offline ] }} ]\n  \
               output: [ target/release/{name} ]\n  cache: [ target ]\n\
             test: {{ steps: [ {{ run: [ cargo, test, --locked, --offline ] }} ] }}\n\
             run: {{ command: [ ./{name} ] }}\n\
             health:\n  startup: {{ http: /ready, within: 60s }}\n  ready: {{ http: /ready }}\n\
             traffic: {{ listen: \"127.0.0.1:{}\", drain: 30s }}\nstrategy: {{ blueGreen: {{ bake: 10m }} }}\n",
            10_000 + number
        );
        add(format!("services/{name}/service.yaml"), base);
    }
    for environment in ENVIRONMENTS {
        for number in 0..SERVICES {
            let file = format!("environments/{environment}/{}.yaml", service(number));
            files.insert(file, overlay(0));
        }
    }
    files
}

/// A commit's raw bytes with a signature of `key` in git's place for it.
fn signed(key: &SigningKey, payload: &str) -> Result<String> {
    let (head, message) = payload.split_once("\n\n").context("a commit's message")?;
    let armor = sshsig::sign(key, Namespace::Git, payload.as_bytes());
    let armor = armor.trim_end().replace('\n', "\n ");
    Ok(format!("{head}\ngpgsig {armor}\n\n{message}"))
}

fn commit_files(
    git: &Git,
    files: &Files,
    parents: &[ObjectId],
    time: Timestamp,
) -> Result<ObjectId> {
    let root = tree::write(files, |kind, bytes| git.write(kind, bytes))?;
    let raw = commit::unsigned(&root, parents, "By policy", time);
    Ok(git.write(Kind::Commit, &raw)?)
}
