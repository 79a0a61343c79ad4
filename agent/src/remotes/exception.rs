//! Break-glass: an operator's durable decision that one admission, though stale, may start on this host. It replaces the
//! word of freshness and nothing else: both signatures and every other step are still asked for.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use state::digest::Sha256Hash;
use state::durable::{self, Extra, Format};
use state::{Code, Refusal};

use crate::disk;
use crate::remotes::snapshot::Believed;

/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

/// What an operator decides about the whole host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The newest verified admission may start though it is stale.
    ApplyStale {
        /// Why.
        reason: String,
        /// Who says so.
        user: String,
    },
    /// That is over.
    Lift {
        /// Who says so.
        user: String,
    },
}

/// An admission that may start though it is stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Glass {
    /// The format of the file.
    #[serde(default)]
    pub format: Format,
    /// Its sequence.
    pub sequence: u64,
    /// The hash of its manifest.
    pub manifest: Sha256Hash,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub user: String,
    /// When.
    pub since: Timestamp,
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Glass {
    /// Breaks it for what is believed.
    ///
    /// # Errors
    /// `NOTHING_VERIFIED`, `NOT_STALE`, `TRUST_EXPIRED`, `AGENT_CONFIG_INVALID` for a reason that is none.
    pub fn broken(
        believed: Option<&Believed>,
        reason: &str,
        user: &str,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let Some(believed) = believed else {
            let detail = "no remote has shown an admission that this host could verify";
            return Err(Refusal::new(Code::NothingVerified, detail));
        };
        if now >= believed.trusted_until {
            let detail = format!("the trust file has expired at {}", believed.trusted_until);
            return Err(Refusal::new(Code::TrustExpired, detail));
        }
        if !believed.is_stale(now) {
            let Believed {
                sequence,
                fresh_until,
                ..
            } = believed;
            let detail = format!("sequence {sequence} is fresh until {fresh_until}");
            return Err(Refusal::new(Code::NotStale, detail));
        }
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON {
            let detail = format!("a reason of 1 to {MAX_REASON} bytes is needed");
            return Err(Refusal::new(Code::AgentConfigInvalid, detail));
        }
        Ok(Self {
            format: Format::current(),
            sequence: believed.sequence,
            manifest: believed.manifest,
            reason: reason.to_owned(),
            user: user.to_owned(),
            since: now,
            extra: Extra::default(),
        })
    }

    /// Says whether it was broken for `believed`, and still may be.
    pub fn covers(&self, believed: &Believed, now: Timestamp) -> bool {
        (self.sequence, self.manifest) == (believed.sequence, believed.manifest)
            && now < believed.trusted_until
    }

    /// Reads what was decided; a file that cannot be read allows nothing.
    pub fn load(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        durable::parse(&bytes)
            .map_err(|why| why.refuse(path, Code::StateUnsafe))
            .inspect_err(|refusal| tracing::warn!(%refusal, "what was decided is ignored"))
            .ok()
    }

    /// Writes it down, durably.
    ///
    /// # Errors
    /// `DISK_FULL`, `STATE_NEWER`, `STATE_UNSAFE`.
    pub fn save(&self, path: &Path) -> Result<(), Refusal> {
        durable::check_file(path)?;
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| disk::failed(path, &std::io::Error::from(error)))?;
        disk::save(path, &bytes, 0o600)
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// `STATE_UNSAFE`.
    pub fn remove(path: &Path) -> Result<(), Refusal> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(disk::failed(path, &error))
            }
            _ => Ok(()),
        }
    }
}
