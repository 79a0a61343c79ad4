//! `policy admit REPO`: one pass; what a crash left half done is completed.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use state::Refusal;
use state::key::SigningKey;

use super::Exit;
use crate::admit::{Admitter, Pass};
use crate::output::{self, Paint};
use crate::repository::Repository;
use crate::settings::Folder;

/// What policy works on, and with which key.
#[derive(Debug, Args)]
pub(super) struct Served {
    /// The bare repository that is served, or policy's mirror of one that is hosted elsewhere.
    repository: PathBuf,
    /// Where it is hosted; the mirror is made if it is missing, and knows it from then on.
    #[arg(long, value_name = "URL")]
    remote: Option<String>,
    /// The policy key; by default the one named in REPO/writ/policy.yaml.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Served {
    /// Opens the repository, or the mirror.
    pub(super) fn open(&self) -> anyhow::Result<Repository> {
        Repository::working(&self.repository, self.remote.as_deref())
    }

    /// Loads the key.
    pub(super) fn key(&self, folder: &Folder) -> Result<SigningKey, Refusal> {
        folder.key(self.key.as_deref())
    }
}

/// Judge `main`, countersign what may be admitted, and renew the statement of freshness.
#[derive(Debug, Args)]
pub(super) struct AdmitArgs {
    #[command(flatten)]
    served: Served,
}

pub(super) fn run(args: &AdmitArgs) -> anyhow::Result<Exit> {
    let repository = args.served.open()?;
    let folder = Folder::of(&repository.folder);
    let admitter = Admitter {
        repository: &repository,
        folder: &folder,
        key: &args.served.key(&folder)?,
    };
    let pass = admitter.pass(Timestamp::now())?;
    report(&pass);
    Ok(exit(&pass))
}

/// Prints what a pass did: admissions and what waits on standard output, refusals on standard error.
pub(super) fn report(pass: &Pass) {
    report_admitted(pass);
    report_refused(pass);
}

/// What a pass did, and what waits.
pub(super) fn report_admitted(pass: &Pass) {
    let paint = Paint::of(&std::io::stdout());
    if let Some(why) = &pass.replaced {
        outln!("replaced what 'admitted' showed beside the last admission: {why}");
    }
    for manifest in &pass.admitted {
        out!("{}", output::admission(manifest, paint));
    }
    out!("{}", output::verdicts(&pass.left, paint));
}

/// Why `main` is refused or another branch was passed over, and the ways out.
pub(super) fn report_refused(pass: &Pass) {
    super::refused(&pass.refused);
    if let Some(way_out) = &pass.way_out {
        err!("on `main`: {way_out}");
    }
    for passed_over in &pass.passed_over {
        super::refused(std::slice::from_ref(&passed_over.refusal));
        err!("{passed_over}");
    }
    if let Some(heavy) = &pass.heavy {
        errln!("warning: {heavy}");
    }
}

/// How a pass ends as a command.
fn exit(pass: &Pass) -> Exit {
    if pass.refused.is_empty() && pass.passed_over.is_empty() {
        Exit::of(&pass.left)
    } else {
        Exit::Refused
    }
}
