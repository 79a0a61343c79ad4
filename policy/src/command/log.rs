//! `policy log [REPO]`: the verified audit log, newest admission first.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use state::Refusal;
use state::commit::{self, Commit};
use state::digest::{ObjectId, PayloadHash, ReleaseId, Sha256Hash};
use state::git::Kind;
use state::manifest::{Manifest, TrustRef};
use state::name::{EnvironmentName, Label};
use state::text::Escaped;
use state::tree::Objects as _;
use state::verify::Entry;

use super::Exit;
use crate::log::{self, Log};
use crate::output::{Colour, Paint, transition};
use crate::repository::Repository;

/// Show what was admitted, when, and on whose authority; every line of it verified.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// The bare repository, or a clone of it.
    #[arg(default_value = ".")]
    repository: PathBuf,
    /// Print JSON: an array, newest admission first.
    #[arg(long)]
    json: bool,
}

/// One admission, as it is shown.
#[derive(Debug, Serialize)]
struct Admission {
    sequence: u64,
    time: Timestamp,
    commit: ObjectId,
    manifest: Sha256Hash,
    trust: TrustRef,
    author: AuthorCommit,
    changes: Vec<Transition>,
    /// All that are in force from then on.
    holds: Vec<Held>,
}

/// The commit of `main` that an admission was made from.
#[derive(Debug, Serialize)]
struct AuthorCommit {
    commit: ObjectId,
    payload: PayloadHash,
    name: Label,
    subject: String,
}

/// One change of an admission; the name `environment` stands for the rules.
#[derive(Debug, Serialize)]
struct Transition {
    environment: EnvironmentName,
    name: String,
    from: Option<ReleaseId>,
    to: Option<ReleaseId>,
}

/// One hold; the name `environment` stands for the rules.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Held {
    environment: EnvironmentName,
    name: String,
    reason: String,
}

pub(super) fn run(args: &LogArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(&args.repository)?;
    let log = log::read(&repository, Timestamp::now())?;
    let newest_first = log.newest_first(&repository.git);
    let admissions: Result<Vec<_>, Refusal> = newest_first
        .map(|entry| admission(&repository, &log, &entry?))
        .collect();
    let admissions = admissions?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&admissions)?);
        return Ok(Exit::Done);
    }
    let paint = Paint::of(&std::io::stdout());
    for (at, admission) in admissions.iter().enumerate() {
        print(admission, admissions.get(at + 1), paint);
    }
    if let Some(junk) = log.verified().junk() {
        outln!("beyond the last admission lies what policy did not sign: {junk}");
    }
    Ok(Exit::Done)
}

/// What `entry` says, and who signed the commit it was made from.
fn admission(repository: &Repository, log: &Log, entry: &Entry) -> Result<Admission, Refusal> {
    let manifest: &Manifest = &entry.manifest;
    let id = manifest.author.commit;
    let raw = repository
        .git
        .object(Kind::Commit, &id, commit::MAX_BYTES)?;
    let commit = Commit::parse(id, &raw)?;
    let trust = log.verified().chain().get(&manifest.trust)?;
    let author = AuthorCommit {
        commit: id,
        payload: manifest.author.payload,
        name: trust.verify_commit(&commit)?.name.clone(),
        subject: commit.subject().to_owned(),
    };
    let changes = manifest.changes.iter().map(|change| Transition {
        environment: change.environment.clone(),
        name: change.subject.to_string(),
        from: change.from,
        to: change.to,
    });
    let holds = manifest.holds.iter().map(|hold| Held {
        environment: hold.environment.clone(),
        name: hold.subject.to_string(),
        reason: hold.reason.clone(),
    });
    Ok(Admission {
        sequence: manifest.sequence,
        time: manifest.issued,
        commit: entry.commit,
        manifest: manifest.hash(),
        trust: manifest.trust,
        author,
        changes: changes.collect(),
        holds: holds.collect(),
    })
}

/// Prints an admission; of its holds, what is other than in the one before.
fn print(admission: &Admission, before: Option<&Admission>, paint: Paint) {
    let Admission {
        sequence,
        time,
        trust,
        author,
        changes,
        ..
    } = admission;
    let title = paint.paint(Colour::Bold, format!("{sequence:>5}  {time}"));
    let subject = Escaped(&author.subject);
    outln!(
        "{title}  {}  {} {subject}  (trust {})",
        author.name,
        author.commit.short(),
        trust.version
    );
    let width = |text: fn(&Transition) -> &str| {
        changes.iter().map(|one| text(one).len()).max().unwrap_or(0)
    };
    let (environments, names) = (
        width(|one| one.environment.as_str()),
        width(|one| &one.name),
    );
    for change in changes {
        let ids = transition(change.from, change.to);
        outln!(
            "       {:environments$}  {:names$}  {}",
            change.environment,
            change.name,
            ids.trim_end()
        );
    }
    let before = before.map_or(&[][..], |before| &before.holds);
    let line = |held: &Held, what: &str| {
        outln!("       {}  {}  {what}", held.environment, held.name);
    };
    for held in admission.holds.iter().filter(|held| !before.contains(held)) {
        line(held, &format!("held: {}", held.reason));
    }
    let still = |held: &Held| {
        let mut holds = admission.holds.iter();
        holds.any(|now| (&now.environment, &now.name) == (&held.environment, &held.name))
    };
    for held in before.iter().filter(|held| !still(held)) {
        line(held, "no longer held");
    }
}
