//! What policy keeps in the repository it serves, or in its mirror of a hosted one, the folder `REPO/writ/`:
//!
//! ```text
//! policy.yaml    settings
//! lock           held during a pass
//! checkpoint     how far the log was verified; a cache
//! signed         the manifest that was signed last; written before it is signed
//! evidence       the approvals that were admitted with it; written before the manifest
//! refs-….lock    the locks of the refs that a pass is moving, under second names: they tell what a killed one held
//! wake           touched by whoever knows of something new: a hook whose account may not read the key, a webhook
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use state::key::SigningKey;
use state::lock::{Lock, LockError};
use state::text::Escaped;
use state::unit::{Bytes, Period};
use state::{Code, Refusal, file, yaml};

/// By this line a hook of ours is told from a foreign one.
pub(crate) const HOOK_MARK: &str = "# Installed by `policy hook install`.";

/// Says whether a hook with the content `bytes` was installed by policy.
pub(crate) fn is_our_hook(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains(HOOK_MARK)
}

/// How often a remote is asked, unless the settings say otherwise.
const POLL: Period = Period::seconds(15);

/// How long another pass is waited for before the pusher is told.
const UNTOLD: Duration = Duration::from_secs(2);

/// How long it is waited for after that.
const PATIENCE: Duration = Duration::from_secs(28);

/// What `policy.yaml` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The file that holds the policy key; `--key` overrides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Where the repository is hosted, if this one is policy's mirror of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// How often that is asked for news.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Period>,
    /// The time within which it must have answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Period>,
    /// The most bytes that one fetch may bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Bytes>,
}

impl Settings {
    /// Reads the content of `policy.yaml`.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        yaml::parse(bytes).and_then(|value| yaml::typed(&value))
    }

    /// How often the remote is asked.
    ///
    /// # Errors
    /// If that would be all the time, or too seldom for anybody to notice that it is not.
    pub fn poll(&self) -> anyhow::Result<Period> {
        let poll = self.poll.unwrap_or(POLL);
        if poll < Period::seconds(1) || poll > Period::minutes(60) {
            bail!("poll: '{poll}', expected 1s to 1h");
        }
        Ok(poll)
    }
}

/// The folder `REPO/writ` and the files in it.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of the bare repository at `repository`; it need not exist yet.
    pub fn of(repository: &Path) -> Self {
        Self(repository.join("writ"))
    }

    /// Makes the folder unless it is there.
    pub fn create(&self) -> Result<(), Refusal> {
        std::fs::create_dir_all(&self.0).map_err(|error| unusable(&self.0, &error))
    }

    /// Reads `policy.yaml`; a missing file is an empty one.
    pub fn settings(&self) -> Result<Settings, Refusal> {
        let path = self.0.join("policy.yaml");
        match std::fs::read(&path) {
            Ok(bytes) => Settings::parse(&bytes).map_err(|refusal| refusal.at(path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => Err(unusable(&path, &error)),
        }
    }

    /// Writes `policy.yaml`.
    pub fn save_settings(&self, settings: &Settings) -> Result<(), Refusal> {
        let path = self.0.join("policy.yaml");
        let text = serde_yaml::to_string(settings).map_err(|error| unusable(&path, &error))?;
        file::write_atomic(&path, text.as_bytes(), 0o644).map_err(|error| unusable(&path, &error))
    }

    /// Loads the policy key: from `chosen`, else from where `policy.yaml` says.
    ///
    /// # Errors
    /// `POLICY_KEY_MISSING` if neither names a key that this account may read.
    pub fn key(&self, chosen: Option<&Path>) -> Result<SigningKey, Refusal> {
        let path = match chosen {
            Some(path) => Some(path.to_owned()),
            None => self.settings()?.key,
        };
        let missing = |detail: String| Refusal::new(Code::PolicyKeyMissing, detail);
        let path =
            path.ok_or_else(|| missing(format!("no key is named in '{}'", self.0.display())))?;
        File::open(&path).map_err(|error| missing(format!("'{}': {error}", path.display())))?;
        SigningKey::load(&path)
    }

    /// Where the manifest that was signed last is kept.
    pub fn signed(&self) -> PathBuf {
        self.0.join("signed")
    }

    /// Where the evidence in the tree of that manifest is kept.
    pub fn evidence(&self) -> PathBuf {
        self.0.join("evidence")
    }

    /// Wakes `policy run`, which watches the folder.
    pub fn wake(&self) -> Result<(), Refusal> {
        let path = self.0.join("wake");
        std::fs::write(&path, "").map_err(|error| unusable(&path, &error))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Waits for the other pass, if there is one, and keeps further ones out until the value is dropped.
    ///
    /// # Errors
    /// `LOCK_HELD` with the process that holds it, `REPOSITORY_UNUSABLE`.
    pub fn lock(&self) -> Result<Lock, Refusal> {
        self.create()?;
        let path = self.0.join("lock");
        let folder = std::fs::metadata(&self.0).map_err(|error| unusable(&self.0, &error))?;
        // Accounts that share the repository share the lock; nobody else may so much as open it.
        let mode = match folder.mode() & 0o020 {
            0 => 0o600,
            _ => 0o660,
        };
        let taken = match Lock::take(&path, mode, UNTOLD) {
            Err(LockError::Held(holder)) => {
                errln!(
                    "waiting for {}, which holds the repository's lock",
                    Escaped(&holder.to_string())
                );
                Lock::take(&path, mode, PATIENCE)
            }
            taken => taken,
        };
        taken.map_err(|error| match error {
            LockError::Held(_) => {
                let waited = UNTOLD + PATIENCE;
                let detail = format!("'{}': {error}, for {waited:?} now", path.display());
                Refusal::new(Code::LockHeld, detail)
            }
            LockError::Unusable(error) => unusable(&path, &error),
        })
    }
}

/// Says that a file of the repository cannot be worked with.
pub(crate) fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::RepositoryUnusable,
        format!("'{}': {error}", path.display()),
    )
}
