//! The two files between the agent and a shim: the order, which the agent writes, and the state, which the shim writes.
//! A shim outlives the agent that started it, so another agent must be able to read both, and write what the shim reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use state::Code;
use state::durable::{self, Extra, Format};
use state::file::write_atomic;

use super::process::{ProcessId, boot_id};
use super::{Exit, SlotSpec, SlotStatus};
use crate::disk::failed;

/// What a shim is to do. Read when it starts, and again when its process ends or it is told to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    /// The format of the file. An order that is changed keeps it: it is read by the shim that was started for it.
    #[serde(default)]
    pub(super) format: Format,
    /// What to run.
    pub(super) spec: SlotSpec,
    /// Where what it prints goes.
    pub(super) log: PathBuf,
    /// The time between asking its processes to end and killing them.
    pub(super) grace: Duration,
    /// What a newer version noted.
    #[serde(flatten)]
    pub(super) extra: Extra,
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// The format of the file: the order's, so that the agent which gave it can read the answer.
    #[serde(default)]
    pub(super) format: Format,
    /// The attempt of the order.
    pub(super) attempt: String,
    /// The boot of which the processes are.
    pub(super) boot: String,
    /// The shim.
    pub(super) supervisor: ProcessId,
    /// The process that it runs; none before the first start and while it waits to start it again.
    pub(super) process: Option<ProcessId>,
    /// When that was started.
    pub(super) since: Timestamp,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// How it ended last.
    #[serde(default, deserialize_with = "known_exit")]
    pub(super) exit: Option<Exit>,
    /// Why it could not be started.
    pub(super) failure: Option<String>,
    /// Whether something had to be killed when the slot was stopped.
    #[serde(default)]
    pub(super) killed: bool,
    /// What a newer shim notes.
    #[serde(flatten)]
    pub(super) extra: Extra,
}

/// A way to end that only a newer shim knows is one that nobody saw.
fn known_exit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Exit>, D::Error> {
    let exit = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(exit.map(|exit| serde_json::from_value(exit).unwrap_or(Exit::Lost)))
}

impl State {
    /// Says whether the shim lives: the same pid, start time and boot.
    pub(super) fn is_supervised(&self) -> bool {
        self.boot == boot_id() && self.supervisor.is_alive()
    }

    /// What that means for the slot.
    pub(super) fn status(self) -> SlotStatus {
        let supervised = self.is_supervised();
        match (self.process, self.exit) {
            (Some(process), _) if supervised => SlotStatus::Running {
                attempt: self.attempt,
                supervisor: self.supervisor.pid,
                pid: process.pid,
                since: self.since,
                restarts: self.restarts,
            },
            (None, None) if supervised => SlotStatus::Absent,
            (process, exit) => SlotStatus::Exited {
                attempt: self.attempt,
                exit: exit.filter(|_| process.is_none()).unwrap_or(Exit::Lost),
                restarts: self.restarts,
                restarting: supervised,
            },
        }
    }
}

/// The order's file in the folder of a slot.
pub(super) fn order_path(slot: &Path) -> PathBuf {
    slot.join("order.json")
}

/// The state's file in the folder of a slot.
pub(super) fn state_path(slot: &Path) -> PathBuf {
    slot.join("state.json")
}

/// Reads one of the files; `None` if there is none or it cannot be read, which is said.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let read = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(failed(path, &error)),
        Ok(bytes) => durable::parse(&bytes).map_err(|why| why.refuse(path, Code::StateUnsafe)),
    };
    read.inspect_err(|refusal| tracing::warn!(%refusal, "a slot's file cannot be read"))
        .ok()
}

/// Writes one of the files. They are the agent's alone: variables of a service may be secrets.
pub(super) fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_atomic(path, &serde_json::to_vec(value)?, 0o600)
}
