//! Stands in for `ssh-keygen` where a security key is asked for, which no test machine has: makes and uses keys of the
//! type ed25519-sk in software, with the bytes that OpenSSH's PROTOCOL.u2f prescribes. All else goes to the real program,
//! which thereby is the oracle: it verifies what is signed here.
//!
//! A key made with `-O no-touch-required` signs as one that nobody touches.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use ssh_key::public::{Ed25519PublicKey, KeyData, SkEd25519};
use ssh_key::{Algorithm, HashAlg, LineEnding, SshSig};

/// The first line of a private key that exists in software only.
const MARK: &str = "security key in software";
/// The application that ssh-keygen binds such keys to.
const APPLICATION: &str = "ssh:";
/// PROTOCOL.u2f: the flag that says that somebody touched the key.
const USER_PRESENT: u8 = 0x01;

/// The arguments of ssh-keygen that matter here.
#[derive(Default)]
struct Arguments {
    kind: Option<String>,
    action: Option<String>,
    namespace: Option<String>,
    comment: Option<String>,
    option: Option<String>,
    file: Option<PathBuf>,
    messages: Vec<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-t" => arguments.kind = words.next(),
                "-Y" => arguments.action = words.next(),
                "-n" => arguments.namespace = words.next(),
                "-C" => arguments.comment = words.next(),
                "-O" => arguments.option = words.next(),
                "-f" => arguments.file = words.next().map(PathBuf::from),
                "-N" => drop(words.next()),
                flag if flag.starts_with('-') => {}
                message => arguments.messages.push(message.into()),
            }
        }
        arguments
    }
}

/// A key and whether somebody touches it.
struct SecurityKey {
    secret: SigningKey,
    touched: bool,
}

impl SecurityKey {
    fn public(&self) -> KeyData {
        let point = Ed25519PublicKey(self.secret.verifying_key().to_bytes());
        KeyData::SkEd25519(SkEd25519::new(point, APPLICATION))
    }

    fn make(arguments: &Arguments) -> anyhow::Result<()> {
        let path = arguments.file.as_deref().context("-f FILE")?;
        let mut seed = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let touched = arguments.option.as_deref() != Some("no-touch-required");
        let secret = SigningKey::from_bytes(&seed);
        let key = Self { secret, touched };
        let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(path, format!("{MARK}\n{touched}\n{hex}\n"))?;
        let line = ssh_key::PublicKey::from(key.public()).to_openssh()?;
        let comment = arguments.comment.as_deref().unwrap_or_default();
        std::fs::write(path.with_extension("pub"), format!("{line} {comment}\n"))?;
        Ok(())
    }

    /// Reads a key of ours; `None` if it is one of ssh-keygen's.
    fn load(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut lines = text.lines();
        if lines.next()? != MARK {
            return None;
        }
        let touched = lines.next()? == "true";
        let hex = lines.next()?;
        let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok())
            .collect();
        let secret = SigningKey::from_bytes(&bytes?.try_into().ok()?);
        Some(Self { secret, touched })
    }

    /// The armored signature of `message`, as PROTOCOL.sshsig and PROTOCOL.u2f say.
    fn sign(&self, namespace: &str, message: &[u8]) -> anyhow::Result<String> {
        let signed = SshSig::signed_data(namespace, HashAlg::Sha512, message)?;
        let flags = if self.touched { USER_PRESENT } else { 0 };
        let tail = [flags, 0, 0, 0, 7];
        let touched = [
            &Sha256::digest(APPLICATION)[..],
            &tail,
            &Sha256::digest(signed),
        ];
        let bytes = [
            &self.secret.sign(&touched.concat()).to_bytes()[..],
            &tail[..],
        ];
        let bytes = ssh_key::Signature::new(Algorithm::SkEd25519, bytes.concat())?;
        let signature = SshSig::new(self.public(), namespace, HashAlg::Sha512, bytes)?;
        Ok(signature.to_pem(LineEnding::LF)?)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1));
    if arguments.kind.as_deref() == Some("ed25519-sk") {
        return SecurityKey::make(&arguments);
    }
    let key = arguments.file.as_deref().and_then(SecurityKey::load);
    if let (Some("sign"), Some(key)) = (arguments.action.as_deref(), key) {
        let namespace = arguments.namespace.as_deref().context("-n NAMESPACE")?;
        if arguments.messages.is_empty() {
            let mut message = Vec::new();
            std::io::stdin().read_to_end(&mut message)?;
            print!("{}", key.sign(namespace, &message)?);
        }
        for path in &arguments.messages {
            let signature = key.sign(namespace, &std::fs::read(path)?)?;
            let mut name = path.as_os_str().to_owned();
            name.push(".sig");
            std::fs::write(PathBuf::from(name), signature)?;
        }
        return Ok(());
    }
    Err(std::process::Command::new(real()?)
        .args(std::env::args_os().skip(1))
        .exec()
        .into())
}

/// The `ssh-keygen` that is not this program.
fn real() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?.canonicalize()?;
    let path = std::env::var_os("PATH").context("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join("ssh-keygen"));
    let is_other = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path != this);
    let Some(found) = candidates.into_iter().find(is_other) else {
        bail!("ssh-keygen is not installed");
    };
    Ok(found)
}
