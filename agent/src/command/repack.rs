//! `agent repack`: the process in which the packs of a mirror become one; see [`crate::remotes::mirror::Mirror::pack`].

use std::path::PathBuf;
use std::time::Duration;
use std::{process, thread};

use state::Refusal;
use state::git::Git;
use state::git::worker::limit_memory;

use crate::disk::failed;

/// How long it may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Make one pack of all that lie in a mirror
#[derive(Debug, clap::Args)]
pub(super) struct RepackArgs {
    /// The mirror.
    mirror: PathBuf,
}

pub(super) fn cmd_repack(args: &RepackArgs) -> Result<(), Refusal> {
    limit_memory().map_err(|error| failed(&args.mirror, &error))?;
    // Whoever waits for this process waits no longer than that; what it leaves half done the next fetch sweeps away.
    thread::spawn(|| {
        thread::sleep(DEADLINE);
        process::exit(1);
    });
    Git::open(&args.mirror)?.repack()
}
