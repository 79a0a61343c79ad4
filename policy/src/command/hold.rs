//! `policy hold ENVIRONMENT/SERVICE --reason CODE` and `--lift`: policy's own holds.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use state::manifest::{Hold, Subject};

use super::{Exit, admit};
use crate::admit::Admitter;
use crate::branch::Branch;
use crate::change::Place;
use crate::hold::Edit;
use crate::repository::Repository;
use crate::settings::Folder;
use crate::{candidate, log};

/// Hold a service in an environment, whatever its authors push, or lift such a hold.
///
/// What runs goes on running and nothing new starts: no host deploys another release of it, and policy admits none. The
/// hold is part of every manifest from then on, until it is lifted. Works also while what is new on `main` is refused.
#[derive(Debug, Args)]
pub(super) struct HoldArgs {
    /// What to hold; `ENVIRONMENT/environment` stands for the rules.
    #[arg(value_name = "ENVIRONMENT/SERVICE")]
    place: Target,
    /// Why: a code of capitals, digits and `_`. `AUTHOR` is kept for what authors hold.
    #[arg(long, value_name = "CODE", required_unless_present = "lift")]
    reason: Option<Reason>,
    /// Lift policy's hold. An author's is lifted in its overlay.
    #[arg(long, conflicts_with = "reason")]
    lift: bool,
    /// The bare repository that is served.
    #[arg(long, value_name = "REPO", default_value = ".")]
    repository: PathBuf,
    /// The policy key; by default the one named in REPO/writ/policy.yaml.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// `ENVIRONMENT/SERVICE`.
#[derive(Clone, Debug)]
struct Target(Place);

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some((environment, subject)) = text.split_once('/') else {
            bail!("expected ENVIRONMENT/SERVICE, such as prod/web");
        };
        Ok(Self((environment.parse()?, subject.parse()?)))
    }
}

/// A reason code that policy may give.
#[derive(Clone, Debug)]
struct Reason(String);

impl FromStr for Reason {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == Hold::AUTHOR {
            bail!("`{text}` is kept for what authors hold in their overlays");
        }
        if !Hold::is_reason(text) {
            bail!("expected capitals, digits and '_', such as BAD_BUILD");
        }
        Ok(Self(text.to_owned()))
    }
}

pub(super) fn run(args: &HoldArgs) -> anyhow::Result<Exit> {
    let repository = Repository::served(&args.repository)?;
    let folder = Folder::of(&args.repository);
    {
        let _lock = folder.lock()?;
        repository.refresh()?;
    }
    let Target((environment, subject)) = args.place.clone();
    let edit = match &args.reason {
        None => Edit::Lift((environment.clone(), subject.clone())),
        Some(Reason(reason)) => {
            if !is_known(&repository, &args.place.0)? {
                bail!("'{environment}/{subject}' is neither admitted nor on `main`");
            }
            Edit::Hold(Hold {
                environment: environment.clone(),
                subject: subject.clone(),
                reason: reason.clone(),
            })
        }
    };
    let admitter = Admitter {
        repository: &repository,
        folder: &folder,
        key: &folder.key(args.key.as_deref())?,
    };
    let pass = admitter.hold(&edit, Timestamp::now())?;
    admit::report(&pass);
    let log = log::read(&repository, Timestamp::now())?;
    let mut holds = log.holds().iter();
    match holds.find(|hold| hold.place() == (&environment, &subject)) {
        Some(hold) => outln!("{environment}/{subject} is held: {}", hold.reason),
        None => outln!("{environment}/{subject} is not held"),
    }
    Ok(Exit::Done)
}

/// Says whether there is such a service or environment: a hold of anything else is a slip of the pen.
fn is_known(repository: &Repository, (environment, subject): &Place) -> anyhow::Result<bool> {
    let log = log::read(repository, Timestamp::now())?;
    let mut known = vec![log.admitted().clone()];
    if let Some(tip) = repository.tip(Branch::Main)?
        && let Ok(author) = candidate::of_commit(&repository.git, &log, &tip)
    {
        known.push(author.rendered);
    }
    Ok(known.iter().any(|rendered| match subject {
        Subject::Rules => rendered.rules.contains_key(environment),
        Subject::Service(service) => {
            let place = (environment.clone(), service.clone());
            rendered.releases.contains_key(&place)
        }
    }))
}
