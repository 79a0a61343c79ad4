//! `agent step`: becomes a command of a build, under limits that only a process itself can set without a gap.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::privilege;

/// Run one command of a build
#[derive(Debug, clap::Args)]
pub(super) struct StepArgs {
    /// The longest file that the command may write, in bytes.
    #[arg(long)]
    file_size: u64,
    /// The account to run it as.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// The group to run it as.
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

pub(super) fn cmd_step(args: &StepArgs) -> anyhow::Result<()> {
    limit(Resource::Fsize, args.file_size).context("cannot limit the size of files")?;
    limit(Resource::Core, 0).context("cannot switch off core dumps")?; // a core would fill the checkout
    // Where memory runs out all the same, the kernel takes a build before a service. Not all systems let one say so.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    if let Some((uid, gid)) = args.uid.zip(args.gid) {
        privilege::renounce().context("cannot give up root's rights")?;
        command.uid(uid).gid(gid);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start '{}'", args.command[0].display()))
}

/// Sets the limit for good.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let most = Some(maximum.map_or(most, |maximum| most.min(maximum)));
    let limits = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(resource, limits)?)
}
