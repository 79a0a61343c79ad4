//! The floor: the highest trust, admission and time that a host has accepted. It never goes back.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::digest::{Domain, Sha256Hash};
use crate::manifest::{Manifest, TrustRef};
use crate::name::{EnvironmentName, HostName};
use crate::release::Origin;

/// How far two well-kept clocks may be apart.
pub const SKEW: Duration = Duration::from_secs(300);

/// What a host was enrolled with and what it has accepted since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The fleet.
    pub domain: Domain,
    /// The host's environment.
    pub environment: EnvironmentName,
    /// The host's name.
    pub host: HostName,
    /// The newest trust file; at enrolment version 1, whose hash is the domain.
    pub trust: TrustRef,
    /// The sequence of the newest manifest; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    pub manifest: Sha256Hash,
    /// The commit of `main` it was made from.
    pub main: Option<Origin>,
    /// The latest time seen in a signed statement.
    pub time: Timestamp,
}

impl Floor {
    /// The floor of a host that has accepted nothing but its domain.
    pub fn enrolled(_domain: Domain, _environment: EnvironmentName, _host: HostName) -> Self {
        todo!()
    }

    /// Reads the floor.
    ///
    /// # Errors
    /// `STATE_MISSING`, `STATE_UNSAFE`.
    pub fn load(_path: &Path) -> Result<Self, Refusal> {
        todo!()
    }

    /// Writes the floor durably.
    ///
    /// # Errors
    /// `DISK_FULL` if there is no space, else `STATE_UNSAFE`.
    pub fn save(&self, _path: &Path) -> Result<(), Refusal> {
        todo!()
    }

    /// Checks that `now` is not before the floor's time, give or take [`SKEW`].
    ///
    /// # Errors
    /// `CLOCK_BEHIND`.
    pub fn check_clock(&self, _now: Timestamp) -> Result<(), Refusal> {
        todo!()
    }

    /// Raises the floor to a trust file that was verified.
    ///
    /// # Errors
    /// `TRUST_ROLLBACK`, `TRUST_FORK`.
    pub fn advance_trust(&mut self, _trust: TrustRef) -> Result<(), Refusal> {
        todo!()
    }

    /// Raises the floor to a manifest that was verified.
    ///
    /// # Errors
    /// `LOG_ROLLBACK`, `LOG_FORK`.
    pub fn advance(&mut self, _manifest: &Manifest) -> Result<(), Refusal> {
        todo!()
    }

    /// Raises the floor's time to `issued` of a statement that was verified; an earlier one changes nothing.
    pub fn advance_time(&mut self, _issued: Timestamp) {
        todo!()
    }
}
