//! `agent static`: serves a folder in a slot; started by a shim, never by people.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::static_site;

/// Serve the files of a folder at PORT or SOCKET
#[derive(Debug, clap::Args)]
pub(super) struct StaticArgs {
    /// The folder.
    folder: PathBuf,
}

pub(super) fn cmd_static(args: &StaticArgs) -> anyhow::Result<()> {
    static_site::run(&args.folder)
        .with_context(|| format!("cannot serve '{}'", args.folder.display()))
}
