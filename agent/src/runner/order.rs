//! The two files between the agent and a shim: the order, which the agent writes, and the state, which the shim writes.
//! A shim outlives the agent that started it, so a newer agent must be able to read both.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use state::file::write_atomic;

use super::process::{ProcessId, boot_id};
use super::{Exit, SlotSpec, SlotStatus};

/// What a shim is to do. Read when it starts, and again when its process ends or it is told to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    /// What to run.
    pub(super) spec: SlotSpec,
    /// Where what it prints goes.
    pub(super) log: PathBuf,
    /// The time between asking its processes to end and killing them.
    pub(super) grace: Duration,
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
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
    pub(super) exit: Option<Exit>,
    /// Why it could not be started.
    pub(super) failure: Option<String>,
    /// Whether something had to be killed when the slot was stopped.
    #[serde(default)]
    pub(super) killed: bool,
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
    let read = fs::read(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    read.inspect_err(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(path = %path.display(), %error, "a slot's file cannot be read");
        }
    })
    .ok()
}

/// Writes one of the files. They are the agent's alone: variables of a service may be secrets.
pub(super) fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_atomic(path, &serde_json::to_vec(value)?, 0o600)
}
