//! `policy trust sign FILE --key KEY`: shows a root holder what he signs, and appends his signature.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use state::file;
use state::sshsig::Namespace;

use super::{Draft, FileArgs};
use crate::ceremony::signing;
use crate::command::Exit;
use crate::sign::sign;

/// Sign a trust file with a root key, through ssh-keygen.
///
/// The signature is added to the file of signatures, so that root holders can pass the two files on.
#[derive(Debug, Args)]
pub(super) struct SignArgs {
    #[command(flatten)]
    files: FileArgs,
    /// The private key; or the public one, of a key in an ssh-agent.
    #[arg(long)]
    key: PathBuf,
}

pub(super) fn run(args: &SignArgs) -> anyhow::Result<Exit> {
    let draft = Draft::read(&args.files)?;
    draft.print()?;
    let (key, armor) = sign(&args.key, Namespace::Trust, &draft.bytes)?;
    let previous = draft.previous.iter().map(|(_, trust)| trust);
    let mut roots = previous.chain([&draft.trust]);
    if !roots.any(|trust| trust.root.keys.contains(&key)) {
        bail!(
            "key {} is no root key of this version or the one before it: nothing was written",
            key.fingerprint()
        );
    }
    let signatures = signing::with(&draft.signatures, &key, &armor)?;
    file::write_atomic(&draft.signatures_path, signatures.as_bytes(), 0o644)?;
    // That others have still to sign is no failure of this command.
    draft.count(signatures.as_bytes())?;
    Ok(Exit::Done)
}
