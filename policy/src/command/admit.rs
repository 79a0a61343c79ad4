//! `policy admit REPO`: one pass; what a crash left half done is completed.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Exit;
use crate::admit::{Admitter, Pass};
use crate::output::{self, Paint};
use crate::repository::Repository;
use crate::settings::Folder;

/// Judge `main`, countersign what may be admitted, and renew the statement of freshness.
#[derive(Debug, Args)]
pub(super) struct AdmitArgs {
    /// The bare repository that is served.
    repository: PathBuf,
    /// The policy key; by default the one named in REPO/writ/policy.yaml.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: &AdmitArgs) -> anyhow::Result<Exit> {
    let repository = Repository::served(&args.repository)?;
    let folder = Folder::of(&args.repository);
    let admitter = Admitter {
        repository: &repository,
        folder: &folder,
        key: &folder.key(args.key.as_deref())?,
    };
    let pass = admitter.pass(Timestamp::now())?;
    report(&pass);
    Ok(exit(&pass))
}

/// Prints what a pass did: admissions and what waits on standard output, refusals on standard error.
pub(super) fn report(pass: &Pass) {
    let paint = Paint::of(&std::io::stdout());
    if let Some(why) = &pass.replaced {
        outln!("replaced what 'admitted' showed beside the last admission: {why}");
    }
    for manifest in &pass.admitted {
        out!("{}", output::admission(manifest, paint));
    }
    out!("{}", output::verdicts(&pass.left, paint));
    super::refused(&pass.refused);
}

/// How a pass ends as a command.
fn exit(pass: &Pass) -> Exit {
    if pass.refused.is_empty() {
        Exit::of(&pass.left)
    } else {
        Exit::Refused
    }
}
