//! `policy audit [SEEN]…`: compares what hosts have accepted with the repository's own verified log.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use state::digest::Sha256Hash;
use state::text::Escaped;
use state::{Code, Refusal};

use super::{Exit, refused};
use crate::audit::{Reference, Relation, Seen, audit};
use crate::log::{self, Log};
use crate::repository::{Place, Repository};

/// Compare what hosts have accepted with this repository's own verified log.
///
/// Two manifests for one sequence are a split view, which only a holder of a policy key can make: both sides are named,
/// LOG_FORK. A host that is behind is well; a log that ends before what a host has accepted is LOG_ROLLBACK, or
/// LOG_WITHHELD in a clone.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// `SEQUENCE:MANIFEST`, the hash with or without `sha256:`; or a file with the output of `agent status --json`.
    #[arg(required = true)]
    seen: Vec<String>,
    /// The bare repository, or a clone of it.
    #[arg(long, value_name = "REPO", default_value = ".")]
    repository: PathBuf,
}

pub(super) fn run(args: &AuditArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(&args.repository)?;
    // As it is now, whatever a pass has seen there before.
    let log = log::read_from(&repository, Timestamp::now(), None)?;
    let domain = log.domain().to_string();
    let seen: anyhow::Result<Vec<_>> = args.seen.iter().map(|text| read(text, &domain)).collect();
    let seen = seen?;
    let relations = audit(&reference(&repository, &log)?, &seen);
    let mut refusals = Vec::new();
    for (one, relation) in seen.iter().zip(relations) {
        let (who, sequence) = (Escaped(&one.who), one.sequence);
        match relation {
            Relation::Same => outln!("{who}: {sequence}, the newest admission"),
            Relation::Behind(newer) => outln!("{who}: {sequence}, {newer} behind"),
            Relation::LeftBehind(next) => outln!(
                "{who}: {sequence}, on the side of the log that root has left; it goes on at {next}"
            ),
            Relation::Refused(refusal) => refusals.push(refusal),
        }
    }
    Ok(match refusals.as_slice() {
        [] => Exit::Done,
        some => refused(some),
    })
}

fn reference(repository: &Repository, log: &Log) -> Result<Reference, Refusal> {
    let entries = log.entries(&repository.git)?;
    let manifests = entries.iter().map(|entry| &entry.manifest);
    Ok(Reference {
        name: repository.folder.display().to_string(),
        manifests: manifests
            .map(|manifest| (manifest.sequence, manifest.hash()))
            .collect(),
        anchor: log.trust().anchor.clone(),
        behind: match repository.place {
            Place::Served => Code::LogRollback,
            Place::Clone => Code::LogWithheld,
        },
    })
}

/// As much of `agent status --json` as is compared.
#[derive(Deserialize)]
struct Status {
    host: String,
    domain: String,
    pass: Option<Pass>,
}

#[derive(Deserialize)]
struct Pass {
    sequence: u64,
    manifest: Option<Sha256Hash>,
}

/// What `text` says that somebody has accepted.
fn read(text: &str, domain: &str) -> anyhow::Result<Seen> {
    if let Some((sequence, hash)) = text.split_once(':')
        && let Ok(sequence) = sequence.parse()
    {
        let hash = hash.strip_prefix("sha256:").unwrap_or(hash);
        let manifest = hash.parse();
        return Ok(Seen {
            who: format!("'{text}'"),
            sequence,
            manifest: manifest.with_context(|| format!("'{text}' is no SEQUENCE:MANIFEST"))?,
        });
    }
    let bytes = std::fs::read(Path::new(text)).with_context(|| format!("cannot read '{text}'"))?;
    let status: Status = serde_json::from_slice(&bytes)
        .with_context(|| format!("'{text}' is no output of `agent status --json`"))?;
    if status
        .domain
        .strip_prefix("sha256:")
        .unwrap_or(&status.domain)
        != domain
    {
        bail!(
            "'{text}': the host belongs to another fleet, {}",
            status.domain
        );
    }
    let (sequence, manifest) = match status.pass {
        None => (0, None),
        Some(pass) => (pass.sequence, pass.manifest),
    };
    let unknown = sequence > 0 && manifest.is_none();
    if unknown {
        bail!("'{text}' does not name the manifest: the host's agent is too old");
    }
    Ok(Seen {
        who: format!("host '{}'", status.host),
        sequence,
        manifest: manifest.unwrap_or(Sha256Hash::ZERO),
    })
}
