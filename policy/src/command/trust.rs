//! `policy trust`: what the trust files of a repository say, and the ceremony that makes the next one: a person
//! proposes it, root holders sign it, anybody sees what it changes and whose signature is missing.

mod check;
mod propose;
mod sign;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use state::digest::{Domain, Sha256Hash};
use state::sshsig;
use state::text::Escaped;
use state::trust::{Anchor, Trust};

use super::Exit;
use crate::ceremony::facts;
use crate::ceremony::signing::{Tally, tallies};
use crate::log;
use crate::output::{Colour, Paint};
use crate::repository::Repository;

/// How long before its expiry a new trust file is warned about.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Show trust files, propose the next one, sign it and check it.
#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    #[command(subcommand)]
    command: TrustCommand,
}

/// What to do with trust files.
#[derive(Debug, Subcommand)]
enum TrustCommand {
    Show(ShowArgs),
    Propose(Box<propose::ProposeArgs>),
    Sign(sign::SignArgs),
    Check(check::CheckArgs),
}

/// Show who may sign what, as the newest verified trust file says.
#[derive(Debug, Args)]
struct ShowArgs {
    /// The bare repository, or a clone of it.
    #[arg(default_value = ".")]
    repository: PathBuf,
}

/// Which files a ceremony is about.
#[derive(Debug, Args)]
struct FileArgs {
    /// The trust file.
    file: PathBuf,
    /// Its signatures, all in one file; by default beside it, `.sig` in place of `.yaml`.
    #[arg(long, value_name = "FILE")]
    signatures: Option<PathBuf>,
    /// The version before it; by default beside it.
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
}

pub(super) fn run(args: &TrustArgs) -> anyhow::Result<Exit> {
    match &args.command {
        TrustCommand::Show(args) => show(args),
        TrustCommand::Propose(args) => propose::run(args),
        TrustCommand::Sign(args) => sign::run(args),
        TrustCommand::Check(args) => check::run(args),
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(&args.repository)?;
    let chain = log::trust(&repository)?;
    outln!("domain sha256:{}", chain.domain());
    print(chain.newest());
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
    if let Some(anchor) = &trust.anchor {
        let Anchor { sequence, next, .. } = anchor;
        outln!("anchor   {sequence}, goes on with {next}");
    }
    let paint = Paint::of(&std::io::stdout());
    for sentence in trust.unknown_rights() {
        warn(paint, &sentence);
    }
}

fn warn(paint: Paint, text: &str) {
    let word = paint.paint(Colour::Yellow, "warning:");
    outln!("{word} {}", Escaped(text));
}

/// A trust file on its way to be accepted.
struct Draft {
    bytes: Vec<u8>,
    trust: Trust,
    /// The version before it and its text; `None` for version 1.
    previous: Option<(Vec<u8>, Trust)>,
    /// The fleet, if all versions before it lie beside it and verify.
    domain: Option<Domain>,
    signatures: Vec<u8>,
    /// Where the signatures are or will be.
    signatures_path: PathBuf,
}

impl Draft {
    fn read(args: &FileArgs) -> anyhow::Result<Self> {
        let bytes = read(&args.file)?;
        let trust = Trust::parse(&bytes)?;
        trust.check_new(Timestamp::now())?;
        let signatures = args.signatures.clone();
        let signatures_path = signatures.unwrap_or_else(|| args.file.with_extension("sig"));
        let signatures = match signatures_path.exists() {
            true => read(&signatures_path)?,
            false => Vec::new(),
        };
        let folder = args.file.parent().unwrap_or(Path::new("."));
        let (previous, domain) = match (trust.version - 1, &args.previous) {
            (0, _) => (None, Some(Domain(trust.hash().0))),
            (_, Some(path)) => (Some(read(path)?), None),
            (before, None) => {
                let path = folder.join(format!("{before}.yaml"));
                if !path.exists() {
                    bail!(
                        "'{}' is missing: the version before, which --previous names elsewhere",
                        path.display()
                    );
                }
                (Some(read(&path)?), beside(folder, before)?)
            }
        };
        let parse = |bytes: Vec<u8>| Trust::parse(&bytes).map(|trust| (bytes, trust));
        Ok(Self {
            bytes,
            trust,
            previous: previous.map(parse).transpose()?,
            domain,
            signatures,
            signatures_path,
        })
    }

    /// Prints what the file is and what it changes, and what a person should think about before he signs.
    fn print(&self) -> anyhow::Result<()> {
        let paint = Paint::of(&std::io::stdout());
        outln!("trust {} of {}", self.trust.version, self.trust.name);
        outln!("  sha256:{}", self.trust.hash());
        if let Some(domain) = &self.domain {
            outln!("  domain sha256:{domain}");
        }
        let before = match &self.previous {
            Some((bytes, previous)) => {
                outln!("against version {}:", previous.version);
                bytes.as_slice()
            }
            None => b"{}".as_slice(),
        };
        out!("{}", facts::difference(before, &self.bytes, paint)?);
        for warning in self.warnings(Timestamp::now())? {
            warn(paint, &warning);
        }
        Ok(())
    }

    fn warnings(&self, now: Timestamp) -> anyhow::Result<Vec<String>> {
        let mut warnings = self.trust.unknown_rights();
        let expires = self.trust.expires;
        if expires.duration_since(now) < SOON {
            warnings.push(format!("it expires soon, at {expires}"));
        }
        let Some((bytes, previous)) = &self.previous else {
            return Ok(warnings);
        };
        if expires < previous.expires {
            let before = previous.expires;
            warnings.push(format!(
                "it expires earlier than the version before, at {before}"
            ));
        }
        let comments = facts::comments(bytes)?;
        for key in self.trust.forgotten(previous) {
            let name = comments.get(&key).map_or("", String::as_str);
            warnings.push(format!(
                "{} is neither listed nor `ended`: all that it ever signed stops counting, and no new host accepts the log",
                format!("{key} {name}").trim_end()
            ));
        }
        Ok(warnings)
    }

    /// Prints who signed and who did not; says whether the file would be accepted.
    fn count(&self, signatures: &[u8]) -> anyhow::Result<Exit> {
        let signed = match signatures {
            [] => Vec::new(),
            some => sshsig::split(some)?,
        };
        let previous = self.previous.as_ref().map(|(_, trust)| trust);
        let comments = facts::comments(&self.bytes)?;
        let before = self
            .previous
            .as_ref()
            .map(|(bytes, _)| facts::comments(bytes));
        let before = before.transpose()?.unwrap_or_default();
        let tallies = tallies(previous, &self.trust, &self.bytes, &signed);
        for Tally {
            version,
            root,
            signed,
        } in &tallies
        {
            outln!(
                "root of version {version}: {} signed, {} needed",
                signed.len(),
                root.threshold
            );
            for key in &root.keys {
                let word = if signed.contains(&key) { "signed" } else { "-" };
                let print = key.fingerprint();
                let name = comments.get(&print).or(before.get(&print));
                let name = Escaped(name.map_or("", String::as_str)).to_string();
                outln!("  {word:6}  {}", format!("{print} {name}").trim_end());
            }
        }
        let idle = signed.iter().filter(|signature| {
            let counts = |tally: &Tally<'_>| tally.signed.contains(&signature.key());
            !tallies.iter().any(counts)
        });
        for signature in idle {
            let print = signature.key().fingerprint();
            outln!("  of no use: a signature by {print}, of other bytes or by no root key");
        }
        if !tallies.iter().all(Tally::is_met) {
            outln!("not yet: signatures are missing");
            return Ok(Exit::Waits);
        }
        match previous {
            Some(previous) => previous.next(&self.bytes, signatures)?,
            None => {
                let domain = Domain(Sha256Hash::of(&self.bytes).0);
                Trust::first(&self.bytes, signatures, &domain)?
            }
        };
        let version = self.trust.version;
        outln!("complete: push it to the branch `trust` as {version}.yaml and {version}.sig");
        Ok(Exit::Done)
    }
}

/// The domain, if all versions up to `newest` lie in `folder`, each signed by the one before it.
fn beside(folder: &Path, newest: u64) -> anyhow::Result<Option<Domain>> {
    let file = |version: u64, ending: &str| folder.join(format!("{version}.{ending}"));
    let there = |version| file(version, "yaml").exists() && file(version, "sig").exists();
    if !(1..=newest).all(there) {
        return Ok(None);
    }
    let bytes = read(&file(1, "yaml"))?;
    let domain = Domain(Sha256Hash::of(&bytes).0);
    let mut trust = Trust::first(&bytes, &read(&file(1, "sig"))?, &domain)?;
    for version in 2..=newest {
        trust = trust.next(
            &read(&file(version, "yaml"))?,
            &read(&file(version, "sig"))?,
        )?;
    }
    Ok(Some(domain))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))
}
