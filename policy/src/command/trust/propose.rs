//! `policy trust propose`: writes the next trust file, for people to read, change and sign.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use state::Code;
use state::commit::{self, Commit};
use state::git::Kind;
use state::key::{Fingerprint, PublicKey};
use state::tree::Objects as _;
use state::trust::{Anchor, Ended, Trust};
use state::verify::{self, Chain, Entry};

use super::{check, read};
use crate::branch::Branch;
use crate::ceremony::edit::{Edit, KeyLine};
use crate::ceremony::{effect, facts};
use crate::command::Exit;
use crate::log;
use crate::output::Paint;
use crate::repository::Repository;

/// Write the next trust file from the newest verified one; nothing is signed.
///
/// Without further options only `version`, `prev` and `expires` change, for an editor to do the rest. A KEY is a
/// fingerprint as `ssh-keygen -l` prints it, or a `.pub` file.
#[derive(Debug, Args)]
pub(super) struct ProposeArgs {
    /// The bare repository, or a clone of it.
    #[arg(default_value = ".")]
    repository: PathBuf,
    /// Where to write the file; by default its version and `.yaml`, here.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// When the file expires; by default a year from now.
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// List another author. What he may change is said by --environment, --path, --field and --may.
    #[arg(long, value_name = "NAME=PUB", value_parser = pair, requires_all = ["environment", "path"])]
    add_author: Option<(String, String)>,
    /// An environment of the new author, or `*`.
    #[arg(long, requires = "add_author")]
    environment: Vec<String>,
    /// Paths that he may change, as a pattern.
    #[arg(long, requires = "add_author")]
    path: Vec<String>,
    /// The only fields of overlays that he may change.
    #[arg(long, requires = "add_author")]
    field: Vec<String>,
    /// What he may do.
    #[arg(long, requires = "add_author", default_value = "author")]
    may: Vec<String>,
    /// Put another key in a key's place, whatever its role; the old one is ended, unless it was root's.
    #[arg(long, value_name = "KEY=PUB", value_parser = pair)]
    replace: Vec<(String, String)>,
    /// Take a key out of its role and end it.
    #[arg(long, value_name = "KEY")]
    end: Vec<String>,
    /// Why keys are ended, for people.
    #[arg(long, default_value = "rotated")]
    reason: String,
    /// The last admission for which ended keys count; by default the newest, or the anchor's.
    #[arg(long, value_name = "SEQUENCE")]
    last_sequence: Option<u64>,
    /// Vouch for the log up to this admission, and for `main` up to its commit: what came after it does not count.
    #[arg(long, value_name = "SEQUENCE")]
    anchor: Option<u64>,
    /// The number of the next admission after the anchor, above any that was ever seen; by default the next thousand.
    #[arg(long, value_name = "SEQUENCE", requires = "anchor")]
    next: Option<u64>,
}

pub(super) fn run(args: &ProposeArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(&args.repository)?;
    let chain = log::trust(&repository)?;
    let previous = chain.newest();
    let text = previous_text(&repository, previous)?;
    let mut edit = Edit::after(previous, &text, expires(args, previous));
    if let Some((name, path)) = &args.add_author {
        edit.add_author(&author(args, name, &key_line(path)?)?)?;
    }
    let newest = Newest {
        repository: &repository,
        chain: &chain,
    };
    for (old, new) in &args.replace {
        let old = fingerprint(old)?;
        let is_root = |key: &PublicKey| key.fingerprint() == old;
        let ended = match previous.root.keys.iter().any(is_root) {
            true => None,
            false => Some(ended(args, old, &newest)?),
        };
        edit.replace(&old, &key_line(new)?, ended)?;
    }
    for key in &args.end {
        edit.end(ended(args, fingerprint(key)?, &newest)?)?;
    }
    if let Some(sequence) = args.anchor {
        edit.anchor(newest.anchor(sequence, args.next)?);
    }
    let next = edit.finish()?;
    let trust = Trust::parse(next.as_bytes())?;
    let by_default = || PathBuf::from(format!("{}.yaml", trust.version));
    let output = args.output.clone().unwrap_or_else(by_default);
    if output.exists() {
        bail!("'{}' exists: it is not overwritten", output.display());
    }
    // A key that ends too early is refused before there is a file to sign. A log that is bad already may be why there is
    // a ceremony at all.
    let kept = check::print_effect(&repository, &chain, &trust);
    match kept {
        Err(refusal) if refusal.code == Code::KeyEnded => return Err(refusal.into()),
        Err(refusal) => outln!("log: it cannot be told what becomes of it: {refusal}"),
        Ok(()) => {}
    }
    std::fs::write(&output, &next)
        .with_context(|| format!("cannot write '{}'", output.display()))?;
    let paint = Paint::of(&std::io::stdout());
    outln!(
        "wrote '{}', against version {}:",
        output.display(),
        previous.version
    );
    out!(
        "{}",
        facts::difference(text.as_bytes(), next.as_bytes(), paint)?
    );
    Ok(Exit::Done)
}

/// The text of the newest trust file, as it was signed.
fn previous_text(repository: &Repository, previous: &Trust) -> anyhow::Result<String> {
    let tip = repository.require(Branch::Trust)?;
    let bytes = verify::trust_file(&repository.git, &tip, previous.version)?;
    String::from_utf8(bytes).context("a verified trust file is UTF-8")
}

/// A year from now, at midnight; never before the version before.
fn expires(args: &ProposeArgs, previous: &Trust) -> Timestamp {
    let year = Timestamp::now()
        .to_zoned(TimeZone::UTC)
        .saturating_add(1.year());
    let midnight = year
        .start_of_day()
        .map_or(year.timestamp(), |day| day.timestamp());
    args.expires.unwrap_or(midnight.max(previous.expires))
}

/// An author's item, on one line.
fn author(args: &ProposeArgs, name: &str, key: &KeyLine) -> anyhow::Result<String> {
    let list = |items: &[String]| -> anyhow::Result<String> {
        let quoted: Result<Vec<_>, _> = items.iter().map(serde_json::to_string).collect();
        Ok(format!("[ {} ]", quoted?.join(", ")))
    };
    let fields = match args.field.as_slice() {
        [] => String::new(),
        some => format!("fields: {}, ", list(some)?),
    };
    Ok(format!(
        "{{ name: {name}, key: \"{}\", environments: {}, paths: {}, {fields}may: [ {} ] }}",
        key.text(),
        list(&args.environment)?,
        list(&args.path)?,
        args.may.join(", ")
    ))
}

/// How `key` is listed as ended.
fn ended(args: &ProposeArgs, key: Fingerprint, newest: &Newest<'_>) -> anyhow::Result<Ended> {
    let last_sequence = match args.last_sequence.or(args.anchor) {
        Some(sequence) => sequence,
        None => newest.entry()?.map_or(0, |entry| entry.manifest.sequence),
    };
    Ok(Ended {
        key,
        last_sequence,
        reason: args.reason.clone(),
    })
}

/// The log, read only where a sequence is asked for: a trust file that expired can be replaced without it.
struct Newest<'a> {
    repository: &'a Repository,
    chain: &'a Chain,
}

impl Newest<'_> {
    /// The newest admission that verifies.
    fn entry(&self) -> anyhow::Result<Option<Entry>> {
        let git = &self.repository.git;
        let tip = effect::tip(self.repository)?;
        let log = verify::log(git, self.chain.clone(), tip.as_ref(), Timestamp::now())?;
        Ok(log.last().cloned())
    }

    /// Root's word for the log up to `sequence`.
    fn anchor(&self, sequence: u64, next: Option<u64>) -> anyhow::Result<Anchor> {
        let git = &self.repository.git;
        let mut found = self.entry()?;
        let newest = found.as_ref().map_or(0, |entry| entry.manifest.sequence);
        while let Some(entry) = found.take_if(|entry| entry.manifest.sequence > sequence) {
            found = entry.previous(git)?;
        }
        let entry = found.filter(|entry| entry.manifest.sequence == sequence);
        let entry = entry.with_context(|| format!("the log has no admission {sequence}"))?;
        let id = entry.manifest.author.commit;
        let raw = git.object(Kind::Commit, &id, commit::MAX_BYTES)?;
        Ok(Anchor {
            sequence,
            manifest: entry.manifest.hash(),
            next: next.unwrap_or((newest / 1000 + 1).saturating_mul(1000)),
            main: Commit::parse(id, &raw)?.payload_hash(),
        })
    }
}

/// `NAME=FILE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected an `=` between the two")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn key_line(path: &str) -> anyhow::Result<KeyLine> {
    let text = String::from_utf8(read(Path::new(path))?);
    let text = text.with_context(|| format!("'{path}' is no public key"))?;
    KeyLine::parse(&text).with_context(|| format!("'{path}'"))
}

/// A key named by its fingerprint or by its `.pub` file.
fn fingerprint(key: &str) -> anyhow::Result<Fingerprint> {
    match key.parse() {
        Ok(print) => Ok(print),
        Err(_) if Path::new(key).exists() => Ok(key_line(key)?.key.fingerprint()),
        Err(error) => Err(error).with_context(|| format!("'{key}'")),
    }
}
