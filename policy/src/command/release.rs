//! `policy release`: what CI runs. Pins a service to a source commit, shows what that changes, signs, pushes.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use state::commit::TreeTrailer;
use state::digest::ObjectId;
use state::manifest::Subject;
use state::name::{EnvironmentName, ServiceName};
use state::render::{self, Rendered};
use state::text::escape_lines;
use state::tree::{self, Files};
use state::{Code, Refusal, pin};

use super::Exit;
use crate::branch::Branch;
use crate::candidate::{self, NOWHERE};
use crate::change::changes;
use crate::difference::difference;
use crate::output::Paint;
use crate::program::Program;
use crate::repository::Repository;
use crate::{log, worktree};

/// How often a push that lost a race is made again on top of what won.
const ATTEMPTS: usize = 20;

/// Pin a service to a source commit: one signed commit that changes nothing else.
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// The service.
    service: ServiceName,
    /// The environment.
    #[arg(long, value_name = "NAME")]
    environment: EnvironmentName,
    /// The source commit, 40 hex digits.
    #[arg(long, value_name = "SHA")]
    commit: ObjectId,
    /// Push to `main` of `origin`; when somebody else was faster, do it again on top of his.
    #[arg(long)]
    push: bool,
}

/// How a push ended.
enum Pushed {
    Done,
    LostRace,
}

pub(super) fn run(args: &ReleaseArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(".".as_ref())?;
    let git = Program::new(&repository.folder);
    for _ in 0..ATTEMPTS {
        let base = git.run(&["rev-parse", "--verify", "HEAD"])?;
        if !commit(args, &repository, &git)? {
            outln!(
                "{} in {} is pinned to {} already: nothing done",
                args.service,
                args.environment,
                args.commit
            );
            return Ok(Exit::Done);
        }
        if !args.push {
            return Ok(Exit::Done);
        }
        match push(&git) {
            Ok(Pushed::Done) => {
                // What the remote made of it, for `policy log` and the next difference; it is pushed either way.
                git.say(&["fetch", "--quiet", "origin"], b"")?;
                return Ok(Exit::Done);
            }
            Ok(Pushed::LostRace) => start_again(&git, &base)?,
            Err(error) => {
                // A refused commit would stand in the way of the next try.
                git.run(&["reset", "--quiet", "--keep", &base])?;
                return Err(error);
            }
        }
    }
    let detail = format!("somebody else was faster {ATTEMPTS} times");
    Err(Refusal::new(Code::LostRace, detail).into())
}

/// Commits the pin on top of HEAD; `false` if it is there already.
fn commit(args: &ReleaseArgs, repository: &Repository, git: &Program) -> anyhow::Result<bool> {
    let path = format!("environments/{}/{}.yaml", args.environment, args.service);
    let changed = git.run(&["status", "--porcelain", "--", &path])?;
    if !changed.is_empty() {
        bail!("'{path}' has changes that are not committed: commit or drop them first");
    }
    let head = worktree::tree_of(repository, "HEAD")?;
    let mut snapshot = tree::read(&repository.git, &head, &candidate::LIMITS)?;
    let Some(text) = pinned(&snapshot.files, &path, args.commit)? else {
        return Ok(false);
    };
    let before = rendered(&snapshot.files)?;
    snapshot.files.insert(path.clone(), text.as_bytes().into());
    let after = rendered(&snapshot.files)?;
    let admitted = show(args, repository, &before, &after)?;

    let file = repository.folder.join(&path);
    write(&file, &text)?;
    let message = format!(
        "Release {} {} to {}",
        args.service,
        args.commit.short(),
        args.environment
    );
    let mut rules = [&admitted, &before]
        .into_iter()
        .filter_map(|rendered| rendered.rules.get(&args.environment));
    let required = rules.any(|rules| rules.spec.tree_trailer == TreeTrailer::Required);
    let trailer = match required {
        true => format!("\n\nTree-SHA256: {}", snapshot.id_without(&[])),
        false => String::new(),
    };
    git.run(&["add", "--", &path])?;
    let signed = format!("{message}{trailer}");
    if let Err(error) = git.run(&["commit", "--quiet", "-S", "-m", &signed, "--", &path]) {
        git.run(&["reset", "--quiet", "--", &path])?;
        return Err(error);
    }
    outln!("committed: {message}");
    Ok(true)
}

/// The overlay at `path` with the pin set, also if there was none; `None` if it is pinned like that already.
fn pinned(files: &Files, path: &str, commit: ObjectId) -> anyhow::Result<Option<String>> {
    let Some(bytes) = files.get(path) else {
        return Ok(Some(format!("source:\n  commit: \"{commit}\"\n")));
    };
    let old = std::str::from_utf8(bytes).with_context(|| format!("'{path}' is not UTF-8"))?;
    let new = pin::set(old, commit).map_err(|refusal| refusal.at(path))?;
    Ok((new != old).then_some(new))
}

/// Renders all of `files`; the first problem ends it, `policy check` shows them all.
fn rendered(files: &Files) -> anyhow::Result<Rendered> {
    render::all(files, &NOWHERE).map_err(|refusals| match refusals.into_iter().next() {
        Some(refusal) => refusal.into(),
        None => anyhow::anyhow!("the tree does not render"),
    })
}

/// Prints what would change for the service: against what is admitted, so that a base change that waits is seen to go along.
/// Returns what is admitted, as far as the clone knows it.
fn show(
    args: &ReleaseArgs,
    repository: &Repository,
    before: &Rendered,
    after: &Rendered,
) -> anyhow::Result<Rendered> {
    let admitted = match repository.tip(Branch::Admitted)? {
        Some(_) => Some(log::read(repository, Timestamp::now())?.admitted().clone()),
        None => None,
    };
    let old = admitted.as_ref().unwrap_or(before);
    let mut changes = changes(old, after);
    let subject = Subject::Service(args.service.clone());
    changes.retain(|change| change.environment == args.environment && change.subject == subject);
    out!(
        "{}",
        difference(&changes, old, after, Paint::of(&std::io::stdout()))
    );
    Ok(admitted.unwrap_or_default())
}

/// Pushes HEAD to `main` and shows what the remote says.
fn push(git: &Program) -> anyhow::Result<Pushed> {
    let said = git.say(
        &["push", "--porcelain", "origin", "HEAD:refs/heads/main"],
        b"",
    )?;
    if said.success {
        err!("{}", escape_lines(&said.stderr));
        return Ok(Pushed::Done);
    }
    // `[rejected]`: main has moved since the fetch. The others: it moved while the remote was judging.
    let races = [
        "[rejected]",
        "failed to update ref",
        "cannot lock ref",
        "incorrect old value",
    ];
    // The hook says so itself if the push that was faster is admitted already.
    let told = said.stderr.contains(Code::LostRace.as_str());
    if told || races.iter().any(|race| said.stdout.contains(race)) {
        return Ok(Pushed::LostRace);
    }
    err!("{}", escape_lines(&said.stderr));
    Err(Refusal::new(
        Code::PushFailed,
        "the remote refused the commit; it was taken back",
    )
    .into())
}

/// Takes the own commit back and goes to what won the race.
fn start_again(git: &Program, base: &str) -> anyhow::Result<()> {
    git.run(&["reset", "--quiet", "--keep", base])?;
    git.run(&[
        "fetch",
        "--quiet",
        "origin",
        "+refs/heads/main:refs/remotes/origin/main",
    ])?;
    let said = git.say(
        &["merge", "--quiet", "--ff-only", "refs/remotes/origin/main"],
        b"",
    )?;
    if said.success {
        return Ok(());
    }
    let detail = "this clone has commits that are not on the remote's `main`";
    Err(Refusal::new(Code::LostRace, detail).into())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write '{}'", path.display()))
}
