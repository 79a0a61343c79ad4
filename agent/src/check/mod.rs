//! Whether a slot is well: startup, identity, readiness, liveness. Each answer is kept as it was given, for the record.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use state::Refusal;
use state::digest::ReleaseId;
use state::service::{Check, Health, Probe, Startup};

use crate::route::Address;
use crate::runner::SlotStatus;
use crate::user::User;

/// The slot that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it listens; a worker does not.
    pub address: Option<Address>,
    /// The release that must answer.
    pub release: ReleaseId,
    /// The release's `app` folder, in which `exec` runs.
    pub app: PathBuf,
    /// The variables of the slot's process, for `exec`.
    pub environment: BTreeMap<String, String>,
    /// The slot's account, for `exec`.
    pub user: Option<User>,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whether it counts as a success.
    pub ok: bool,
    /// What was asked: `GET http://127.0.0.1:20000/health`.
    pub request: String,
    /// What came: the status and the first 512 bytes of the body, escaped, or why there was no answer.
    pub answer: String,
    /// How long it took.
    pub milliseconds: u64,
}

/// A probe that was not passed, with the last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwell {
    /// Why.
    pub refusal: Refusal,
    /// The last question and its answer.
    pub answer: Option<Answer>,
}

/// Asks once.
#[allow(clippy::todo, clippy::unused_async, reason = "being written")]
pub async fn probe(check: &Check, target: &Target, timeout: Duration) -> Answer {
    todo!("{check:?} {target:?} {timeout:?}")
}

/// Asks until it succeeds once. Without a startup probe, waits until the address accepts a connection.
///
/// # Errors
/// `PROCESS_EXITED` as soon as `status` says so, `NOT_READY` when the time is over.
#[allow(clippy::todo, clippy::unused_async, reason = "being written")]
pub async fn wait_startup(
    startup: Option<&Startup>,
    target: &Target,
    _status: &(dyn Fn() -> SlotStatus + Sync),
) -> Result<Option<Answer>, Unwell> {
    todo!("{startup:?} {target:?}")
}

/// Asks until it succeeds as many times in a row as the probe says.
///
/// # Errors
/// `PROCESS_EXITED` as soon as `status` says so, `NOT_READY` when `within` is over.
#[allow(clippy::todo, clippy::unused_async, reason = "being written")]
pub async fn wait_ready(
    ready: &Probe,
    target: &Target,
    within: Duration,
    _status: &(dyn Fn() -> SlotStatus + Sync),
) -> Result<Answer, Unwell> {
    todo!("{ready:?} {target:?} {within:?}")
}

/// Checks that what listens at the slot's address is a process below `supervisor`, and that it answers with the
/// release's id where `health.identity` asks for it.
///
/// # Errors
/// `IDENTITY_MISMATCH`.
#[allow(clippy::todo, clippy::unused_async, reason = "being written")]
pub async fn identity(health: &Health, target: &Target, supervisor: u32) -> Result<(), Unwell> {
    todo!("{health:?} {target:?} {supervisor}")
}
