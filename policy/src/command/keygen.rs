//! `policy keygen PATH`: makes an Ed25519 key pair as ssh-keygen does, for policy servers without ssh-keygen.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use state::file;
use state::key::SigningKey;

use super::Exit;

/// Make a policy key: PATH (mode 0600, without passphrase) and PATH.pub.
#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// Where to write the private key.
    path: PathBuf,
}

pub(super) fn run(args: &KeygenArgs) -> anyhow::Result<Exit> {
    let line = generate(&args.path, "policy")?;
    outln!("{line}");
    Ok(Exit::Done)
}

/// Writes a new key pair to `path` and `path`.pub; returns the public key's line without comment.
pub(super) fn generate(path: &Path, comment: &str) -> anyhow::Result<String> {
    if path.exists() {
        bail!("'{}' exists: a key is never overwritten", path.display());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make '{}'", folder.display()))?;
    }
    let key = SigningKey::generate();
    let line = key.public().to_string();
    file::write_atomic(path, key.to_openssh().as_bytes(), 0o600)?;
    file::write_atomic(
        &public_path(path),
        format!("{line} {comment}\n").as_bytes(),
        0o644,
    )?;
    Ok(line)
}

/// Where the public key of `path` stands.
pub(super) fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
