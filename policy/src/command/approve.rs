//! `policy approve ENVIRONMENT/SERVICE`: shows what a change does, signs that it may be admitted, and pushes that.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use state::approval::Signed;
use state::manifest::{Change, Subject};
use state::name::EnvironmentName;
use state::sshsig::Namespace;
use state::text::escape_lines;
use state::tree::Files;
use state::unit::Period;
use state::{Code, Refusal};

use super::Exit;
use crate::branch::Branch;
use crate::candidate::Candidate;
use crate::change::{changes, rules_in_force};
use crate::difference::difference;
use crate::log::Log;
use crate::output::Paint;
use crate::program::Program;
use crate::repository::Repository;
use crate::sign::{GitKey, sign};
use crate::{candidate, collect, evidence, fresh, log};

/// Approve a change that waits: shows it, signs with ssh-keygen, and pushes the approval.
///
/// Works in a clone. Any key that git can sign with will do: a file, an agent's, a security key.
#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// The environment and the service; `environment` for the environment's rules.
    #[arg(value_name = "ENVIRONMENT/SERVICE")]
    place: Place,
    /// The signing key, private or public with the private one in an agent; by default git's `user.signingKey`.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How long the approval may be used.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    expires: Period,
    /// Print the statement, and neither sign nor push it.
    #[arg(long)]
    print: bool,
}

/// What is approved, as it is typed.
#[derive(Clone, Debug)]
struct Place {
    environment: EnvironmentName,
    subject: Subject,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (environment, subject) = text
            .split_once('/')
            .ok_or("expected ENVIRONMENT/SERVICE, such as prod/web")?;
        Ok(Self {
            environment: environment.parse().map_err(|error| format!("{error}"))?,
            subject: subject.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

pub(super) fn run(args: &ApproveArgs) -> anyhow::Result<Exit> {
    let repository = Repository::open(".".as_ref())?;
    let program = Program::new(&repository.folder);
    program.run(&[
        "fetch",
        "--quiet",
        "origin",
        "+refs/heads/*:refs/remotes/origin/*",
    ])?;
    // Opened again, because what was fetched may lie in packs that were not there.
    let repository = Repository::open(".".as_ref())?;
    let now = Timestamp::now();
    let log = log::read(&repository, now)?;
    let tip = repository.require(Branch::Main)?;
    let candidate = match candidate::authenticated(&repository.git, &log, &tip) {
        Ok(candidate) => candidate,
        Err(refusals) => return Ok(super::refused(&refusals)),
    };
    let changes = changes(log.admitted(), &candidate.rendered);
    let place = (&args.place.environment, &args.place.subject);
    let Some(change) = changes.iter().find(|change| change.place() == place) else {
        bail!("`main` asks for no change of {} {}", place.0, place.1);
    };
    let expires = SignedDuration::try_from(args.expires.duration());
    let expires = expires.ok().and_then(|time| now.checked_add(time).ok());
    let expires = expires.context("the approval would expire too late")?;
    let expires = Timestamp::from_second(expires.as_second())?;
    let statement = {
        let mut approvals = log.verified().approvals(&repository.git);
        approvals.asked(change, now)?.statement(expires).print()
    };
    if args.print {
        out!("{statement}");
        return Ok(Exit::Done);
    }
    show(&repository, &log, &candidate, change, now)?;
    let (_, signature) = match &args.key {
        Some(key) => sign(key, Namespace::Approval, statement.as_bytes())?,
        None => {
            let key = GitKey::of(&repository.folder)?;
            let signed = sign(&key.file, Namespace::Approval, statement.as_bytes());
            signed.context("with the key in git's user.signingKey")?
        }
    };
    let signed = Signed {
        signature: signature.into_bytes(),
        statement: statement.into_bytes(),
    };
    let name = collect::check(&repository.git, &log, change, &tip, &signed, now)?;
    let [statement, signature] = collect::FILES;
    let files = Files::from([
        (statement.to_owned(), signed.statement.into()),
        (signature.to_owned(), signed.signature.into()),
    ]);
    let message = format!("Approve {} {}", change.environment, change.subject);
    let commit = fresh::write_commit(&repository.git, &files, &[], &message, now)?;
    let branch = format!("approvals/{}", evidence::branch(change, &name));
    let said = program.say(
        &[
            "push",
            "--quiet",
            "origin",
            &format!("+{commit}:refs/heads/{branch}"),
        ],
        b"",
    )?;
    err!("{}", escape_lines(&said.stderr));
    if !said.success {
        let detail = format!("the remote refused '{branch}'");
        return Err(Refusal::new(Code::PushFailed, detail).into());
    }
    outln!("approved by '{name}' until {expires}");
    Ok(Exit::Done)
}

/// Prints what would change and how far its approvals are.
fn show(
    repository: &Repository,
    log: &Log,
    candidate: &Candidate,
    change: &Change,
    now: Timestamp,
) -> anyhow::Result<()> {
    let (admitted, wanted) = (log.admitted(), &candidate.rendered);
    let paint = Paint::of(&std::io::stdout());
    let one = std::slice::from_ref(change);
    out!("{}", difference(one, admitted, wanted, paint));
    let required = rules_in_force(&change.environment, admitted, wanted);
    let required = required.map_or(0, |rules| rules.approvals);
    let collected = collect::collect(repository, log, candidate, None, now)?;
    let place = (change.environment.clone(), change.subject.clone());
    match collected.approvals.get(&place) {
        Some(collected) => match collected.standing.clone()?.check(required) {
            Ok(()) => outln!("it has the {required} approvals that it needs"),
            Err(refusal) => outln!("it has {}", refusal.detail),
        },
        None => outln!("it needs no approval"),
    }
    Ok(())
}
