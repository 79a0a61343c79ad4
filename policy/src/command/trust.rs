//! `policy trust`: what the trust files of a repository say, and whether a new one is right.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use state::digest::{Domain, Sha256Hash};
use state::text::Escaped;
use state::trust::Trust;

use super::Exit;
use crate::log;
use crate::repository::Repository;

/// Show or check trust files.
#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    #[command(subcommand)]
    command: TrustCommand,
}

/// What to do with trust files.
#[derive(Debug, Subcommand)]
enum TrustCommand {
    Show(ShowArgs),
    Check(CheckArgs),
}

/// Show who may sign what, as the newest verified trust file says.
#[derive(Debug, Args)]
struct ShowArgs {
    /// The bare repository, or a clone of it.
    #[arg(default_value = ".")]
    repository: PathBuf,
}

/// Check a trust file before and after it is signed.
#[derive(Debug, Args)]
struct CheckArgs {
    /// The trust file.
    file: PathBuf,
    /// Its signatures, all in one file.
    #[arg(long, value_name = "FILE")]
    signatures: Option<PathBuf>,
    /// The trust file before it, whose root threshold must have signed too.
    #[arg(long, value_name = "FILE", requires = "signatures")]
    previous: Option<PathBuf>,
}

pub(super) fn run(args: &TrustArgs) -> anyhow::Result<Exit> {
    match &args.command {
        TrustCommand::Show(args) => show(args),
        TrustCommand::Check(args) => check(args),
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(&args.repository)?;
    let chain = log::trust(&repository)?;
    outln!("domain sha256:{}", chain.domain());
    print(chain.newest());
    Ok(Exit::Done)
}

fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let bytes = read(&args.file)?;
    let trust = Trust::parse(&bytes)?;
    trust.check_new(Timestamp::now())?;
    print(&trust);
    let Some(signatures) = &args.signatures else {
        outln!("valid; its signatures were not checked (--signatures)");
        return Ok(Exit::Done);
    };
    let signatures = read(signatures)?;
    match &args.previous {
        Some(previous) => Trust::parse(&read(previous)?)?.next(&bytes, &signatures)?,
        None => Trust::first(&bytes, &signatures, &Domain(Sha256Hash::of(&bytes).0))?,
    };
    outln!("valid, and signed by the root threshold");
    Ok(Exit::Done)
}

fn print(trust: &Trust) {
    outln!(
        "trust  {} version {}, expires {}",
        trust.name,
        trust.version,
        trust.expires
    );
    outln!("       sha256:{}", trust.hash());
    outln!(
        "root   {} of {}",
        trust.root.threshold,
        trust.root.keys.len()
    );
    for key in &trust.root.keys {
        outln!("         {}", key.fingerprint());
    }
    outln!("policy fresh for {}", trust.policy.max_freshness);
    for key in &trust.policy.keys {
        outln!("         {}", key.fingerprint());
    }
    outln!("authors");
    for author in &trust.authors {
        outln!("         {}  {}", author.key.fingerprint(), author.name);
    }
    for ended in &trust.ended {
        outln!(
            "ended    {}  after {}: {}",
            ended.key,
            ended.last_sequence,
            Escaped(&ended.reason)
        );
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))
}
