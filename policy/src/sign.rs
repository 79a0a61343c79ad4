//! Has `ssh-keygen` sign, so that keys in agents and on security keys work: no private key passes through here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use state::key::PublicKey;
use state::sshsig::{Namespace, Signature};
use tempfile::TempDir;

use crate::program::Program;

/// Signs `bytes` with `key`: a private key, or a public one whose private half an agent holds.
///
/// Returns whose signature it is and the signature, which is of these bytes.
///
/// # Errors
/// What keeps ssh-keygen from signing; `SIGNATURE_NONCANONICAL` if a key of that kind counts for nothing.
pub fn sign(key: &Path, namespace: Namespace, bytes: &[u8]) -> anyhow::Result<(PublicKey, String)> {
    let mut child = Command::new("ssh-keygen")
        // It asks for a passphrase or a touch on the terminal; the file and its signature pass through the pipes.
        .args(["-Y", "sign", "-n", namespace.as_str(), "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run ssh-keygen: is OpenSSH installed?")?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ended before it read all, its exit code and its own words say why.
        let _ = stdin.write_all(bytes);
    }
    let output = child
        .wait_with_output()
        .context("cannot wait for ssh-keygen")?;
    if !output.status.success() {
        bail!("ssh-keygen did not sign");
    }
    let signature = Signature::parse(&output.stdout)?;
    let verified = signature.verify(namespace, bytes);
    verified.context("what ssh-keygen made does not count")?;
    let armor = String::from_utf8(output.stdout).context("ssh-keygen printed no text")?;
    Ok((signature.key().clone(), armor))
}

/// The key that git signs commits with.
pub struct GitKey {
    /// Its file, private or public.
    pub file: PathBuf,
    /// What holds the file of a key that the configuration spells out.
    _folder: Option<TempDir>,
}

impl GitKey {
    /// Reads `user.signingKey` of the clone `clone`: a file, or the public key itself, whose private half is in an agent.
    ///
    /// # Errors
    /// If none is configured.
    pub fn of(clone: &Path) -> anyhow::Result<Self> {
        let said = Program::new(clone).say(&["config", "--type=path", "user.signingKey"], b"")?;
        let configured = said.stdout.as_str();
        if !said.success || configured.is_empty() {
            bail!("no key to sign with: name it with --key, or set git's user.signingKey");
        }
        let literal = configured.strip_prefix("key::");
        let is_key = configured.starts_with("ssh-") || configured.starts_with("sk-ssh-");
        match literal.or_else(|| is_key.then_some(configured)) {
            Some(literal) => {
                let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
                let file = folder.path().join("key.pub");
                std::fs::write(&file, format!("{literal}\n")).context("cannot write the key")?;
                Ok(Self {
                    file,
                    _folder: Some(folder),
                })
            }
            // As git does, which signs at the top of the work tree.
            None => Ok(Self {
                file: clone.join(configured),
                _folder: None,
            }),
        }
    }
}
