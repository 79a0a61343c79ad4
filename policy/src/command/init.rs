//! `policy init DIR`: scaffolds a state repository that passes `policy check`, and says what comes next.

mod demo;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use state::name::Label;

use super::Exit;
use crate::program::Program;

const REPOSITORY: &str = include_str!("../../template/repository.yaml");
const ENVIRONMENT: &str = include_str!("../../template/environment.yaml");
const SERVICE: &str = include_str!("../../template/service.yaml");
const TRUST: &str = include_str!("../../template/trust.yaml");
const STEPS: &str = include_str!("../../template/steps.sh");

/// What stands for the domain until there is a trust file to hash.
const NO_DOMAIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Scaffold a state repository and print the steps that put it into service.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The work tree to make; it must be empty or missing.
    dir: PathBuf,
    /// What people call the fleet; by default the folder's name.
    #[arg(long)]
    name: Option<Label>,
    /// Also make throw-away keys without passphrases, sign trust version 1 and the first commit. For trying out only.
    #[arg(long)]
    demo_keys: bool,
    /// Where the demo keys go; by default `keys` beside DIR.
    #[arg(long, value_name = "DIR", requires = "demo_keys")]
    keys: Option<PathBuf>,
    /// Copy this tree instead of the scaffold.
    #[arg(long, value_name = "TREE")]
    from: Option<PathBuf>,
}

pub(super) fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    let dir = prepare(&args.dir)?;
    let keys = match &args.keys {
        Some(keys) => std::path::absolute(keys)?,
        None => dir.with_file_name("keys"),
    };
    let name = name(args, &dir);
    match &args.from {
        Some(tree) => copy(tree, &dir)?,
        None => scaffold(&dir)?,
    }
    let repository = dir.join("repository.yaml");
    if !repository.exists() {
        let text = REPOSITORY.replace("NAME", name.as_str());
        write(&repository, &text.replace("DOMAIN", NO_DOMAIN))?;
    }
    let git = Program::new(&dir);
    git.run(&["init", "-q", "-b", "main", "."])?;
    if args.demo_keys {
        demo::sign(&git, &dir, &keys, &name)?;
    } else {
        outln!(
            "Made '{}'. Run there, with git and ssh-keygen:\n",
            args.dir.display()
        );
        out!("{}", steps(&dir, &keys, &name));
    }
    Ok(Exit::Done)
}

/// Makes `dir` and returns its absolute path; it may hold nothing but `.git`.
fn prepare(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make '{}'", dir.display()))?;
    let dir = dir.canonicalize()?;
    for entry in std::fs::read_dir(&dir)? {
        if entry?.file_name() != ".git" {
            bail!("'{}' is not empty", dir.display());
        }
    }
    Ok(dir)
}

/// The fleet's name: as given, or the folder's if that is a name, or `fleet`.
fn name(args: &InitArgs, dir: &Path) -> Label {
    let folder = || dir.file_name()?.to_str()?.parse().ok();
    let fallback = || "fleet".parse().expect("a valid name");
    args.name.clone().or_else(folder).unwrap_or_else(fallback)
}

/// Writes the minimal example: one environment, one service that no environment pins yet.
fn scaffold(dir: &Path) -> anyhow::Result<()> {
    write(&dir.join("environments/dev/environment.yaml"), ENVIRONMENT)?;
    write(&dir.join("services/hello/service.yaml"), SERVICE)
}

/// Copies the regular files of `tree`, folder by folder; git's own are left out.
fn copy(tree: &Path, dir: &Path) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(tree).with_context(|| format!("cannot read '{}'", tree.display()))?;
    for entry in entries {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, dir.join(entry.file_name()));
        if kind.is_dir() && entry.file_name() != ".git" {
            std::fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy '{}'", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The commands that put a scaffold into service, for a shell in `dir`.
fn steps(dir: &Path, keys: &Path, name: &Label) -> String {
    let public = |role: &str| format!("$(public {role})");
    STEPS
        .replace(
            "TRUST",
            trust(name, &public("root"), &public("policy"), &public("author")).trim_end(),
        )
        .replace("KEYS", &quoted(keys))
        .replace("SERVED", &quoted(&dir.with_extension("git")))
}

/// The first trust file: one root key, one policy key, one author who may do everything; good for a year.
fn trust(name: &Label, root: &str, policy: &str, author: &str) -> String {
    let year = Timestamp::now()
        .to_zoned(TimeZone::UTC)
        .saturating_add(1.year());
    TRUST
        .replace("NAME", name.as_str())
        .replace("EXPIRES", &year.strftime("%Y-%m-%dT00:00:00Z").to_string())
        .replace("ROOT", root)
        .replace("POLICY", policy)
        .replace("AUTHOR", author)
}

/// `path` as one word of a POSIX shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("cannot write '{}'", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(context)?;
    }
    std::fs::write(path, text).with_context(context)
}
