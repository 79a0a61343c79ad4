//! `agent checkout`: the process in which the objects of a source are read; see [`crate::source`].

use std::path::PathBuf;

use anyhow::Context as _;
use state::digest::ObjectId;

use crate::source;

/// Write the files of a commit into an empty folder
#[derive(Debug, clap::Args)]
pub(super) struct CheckoutArgs {
    /// The repository.
    mirror: PathBuf,
    /// The commit.
    commit: ObjectId,
    /// The folder.
    folder: PathBuf,
    /// The most bytes of all files.
    #[arg(long)]
    bytes: u64,
    /// The most files and folders.
    #[arg(long)]
    entries: u64,
}

pub(super) fn cmd_checkout(args: &CheckoutArgs) -> anyhow::Result<()> {
    let limits = source::Limits {
        bytes: args.bytes,
        entries: args.entries,
        ..source::Limits::default()
    };
    source::serve_checkout(&args.mirror, &args.commit, &args.folder, &limits)
        .context("cannot answer")
}
