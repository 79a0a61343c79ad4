//! `policy hook`: installs the hooks of a bare repository, and is what they run.

mod install;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Exit, admit};
use crate::admit::Admitter;
use crate::hook::{Push, pre_receive};
use crate::output::{self, Paint};
use crate::repository::Repository;
use crate::settings::Folder;

/// Install the hooks of a repository, by which every push is judged.
#[derive(Debug, Args)]
pub(super) struct HookArgs {
    #[command(subcommand)]
    command: HookCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum HookCommand {
    Install(install::InstallArgs),
    /// Judge a push that git has not accepted yet.
    #[command(hide = true)]
    PreReceive(Served),
    /// Admit what was pushed, or wake `policy run`.
    #[command(hide = true)]
    PostReceive(Served),
}

/// The repository that a hook runs in.
#[derive(Debug, Args)]
struct Served {
    repository: PathBuf,
}

pub(super) fn run(args: &HookArgs) -> anyhow::Result<Exit> {
    match &args.command {
        HookCommand::Install(args) => install::run(args),
        HookCommand::PreReceive(served) => judge_push(&served.repository),
        HookCommand::PostReceive(served) => after_push(&served.repository),
    }
}

/// Reads what is pushed from standard input and says the verdict on standard error, which git shows to the pusher.
fn judge_push(path: &Path) -> anyhow::Result<Exit> {
    let mut input = Vec::new();
    std::io::stdin()
        .read_to_end(&mut input)
        .context("cannot read what is pushed")?;
    // A name that is no text is none of ours: it is refused as it is shown.
    let input = String::from_utf8_lossy(&input);
    let pushes: Option<Vec<_>> = input.lines().map(Push::parse).collect();
    let Some(pushes) = pushes else {
        bail!("expected '<old> <new> <ref>' on each line of standard input");
    };
    // gix looks at the repository's own objects only; git names the place of the pushed ones here.
    let quarantine = std::env::var_os("GIT_QUARANTINE_PATH").map(PathBuf::from);
    let mut repository = match quarantine.filter(|folder| folder.is_dir()) {
        Some(quarantine) => Repository::pushed_to(path, &quarantine)?,
        None => Repository::served(path)?,
    };
    let answer = pre_receive(&mut repository, &pushes, Timestamp::now());
    for refusal in &answer.refused {
        err!("{}", output::refusal(refusal, Paint::Plain));
    }
    err!("{}", output::verdicts(&answer.judged, Paint::Plain));
    if answer.is_let_in() {
        Ok(Exit::Done)
    } else {
        errln!("refused; nothing was changed");
        Ok(Exit::Refused)
    }
}

/// Admits at once if this account may read the key; else wakes the one that may.
fn after_push(path: &Path) -> anyhow::Result<Exit> {
    let repository = Repository::served(path)?;
    let folder = Folder::of(path);
    let Ok(key) = folder.key(None) else {
        // It watches the branches too: an account that may not write here has woken it by pushing.
        let _ = folder.wake();
        errln!("`policy run` was woken: it admits what may be admitted");
        return Ok(Exit::Done);
    };
    let admitter = Admitter {
        repository: &repository,
        folder: &folder,
        key: &key,
    };
    let pass = admitter.pass(Timestamp::now())?;
    admit::report(&pass);
    Ok(Exit::Done)
}
