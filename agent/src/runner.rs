//! How the process of a slot runs and goes on running when the agent does not: started, watched, stopped and found
//! again by its slot's name.

mod log;
mod members;
mod order;
mod slots;

pub mod process;
pub mod shim;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use state::durable::Extra;
use state::name::ServiceName;
use state::service::{Enforce, Limits, Stop};
use state::{Code, Refusal};

pub(crate) use log::{previous as previous_log, rotate as rotate_log};
pub(crate) use order::{Order, State};
pub use process::boot_id;
pub use slots::Shim;

use crate::layout::Layout;
use crate::slot::Slot;
use crate::user::User;

/// What runs the slots of this host.
#[derive(Clone, Debug)]
pub enum Runner {
    /// One small process a slot, where systemd is not the init.
    Shim(Shim),
}

/// What a slot is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotSpec {
    /// The service.
    pub service: ServiceName,
    /// Its slot.
    pub slot: Slot,
    /// The deployment's attempt: a slot that runs the same attempt is taken over as it is.
    pub attempt: String,
    /// The release; its folder `app` is the working directory.
    pub release: PathBuf,
    /// Program and arguments; a program with a slash is relative to `app`.
    pub command: Vec<String>,
    /// All variables of the process; nothing is added from the agent's own.
    pub environment: BTreeMap<String, String>,
    /// The account; the agent's own if left out.
    pub user: Option<User>,
    /// The bounds that the release asks for.
    pub limits: Limits,
    /// Whether it is started again when it ends.
    pub restart: Restart,
    /// How it is asked to end.
    #[serde(default, skip_serializing_if = "as_ever")]
    pub stop: Stop,
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Says whether a slot is asked to end as slots were before there was a choice; supervisors of that time know no other.
fn as_ever(stop: &Stop) -> bool {
    *stop == Stop::default()
}

/// How the processes of a slot ended that were asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By themselves, or there were none.
    Asked,
    /// Something had to be killed when its time was over.
    Killed,
}

/// Whether a process is started again when it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Restart {
    /// A candidate: its end is an answer.
    Never,
    /// A stable slot: after 1 s, doubling to 60 s.
    Always,
}

/// What becomes of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum SlotStatus {
    /// Nothing was started there, or it was stopped.
    Absent,
    /// Its process runs.
    Running {
        /// The attempt that started it.
        attempt: String,
        /// The process that all processes of the slot descend from.
        supervisor: u32,
        /// The process.
        pid: u32,
        /// When it was started.
        since: Timestamp,
        /// How many times it was started again.
        restarts: u32,
    },
    /// Its process ended by itself.
    Exited {
        /// The attempt that started it.
        attempt: String,
        /// How it ended.
        exit: Exit,
        /// How many times it was started again before.
        restarts: u32,
        /// Whether it will be started again.
        restarting: bool,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody saw it: its supervisor was killed, or the host was started anew.
    Lost,
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        let signal = status.signal().map(Self::Signal);
        status
            .code()
            .map(Self::Code)
            .or(signal)
            .unwrap_or(Self::Lost)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Lost => f.write_str("nobody saw how"),
        }
    }
}

impl Runner {
    /// A runner that starts `program` (the agent itself) as the slots' shims.
    pub fn shim(layout: Layout, program: PathBuf) -> Self {
        Self::Shim(Shim { layout, program })
    }

    /// Says whether `limits` asks for more than this runner enforces.
    pub fn cannot_enforce(&self, limits: &Limits) -> bool {
        let Self::Shim(_) = self;
        limits.memory.is_some() || limits.cpu.is_some() || limits.tasks.is_some()
    }

    /// Starts a slot; does nothing if it already runs the same attempt. Another attempt there is stopped first.
    ///
    /// # Errors
    /// `START_FAILED`, `LIMIT_UNENFORCEABLE`, `DISK_FULL`.
    pub async fn start(&self, spec: &SlotSpec) -> Result<(), Refusal> {
        if spec.limits.enforce == Enforce::Required && self.cannot_enforce(&spec.limits) {
            let detail = format!("{}: the shim enforces no limits", spec.service);
            return Err(Refusal::new(Code::LimitUnenforceable, detail));
        }
        let Self::Shim(shim) = self;
        shim.start(spec).await
    }

    /// Checks that no newer version wrote the slot's files.
    ///
    /// # Errors
    /// `STATE_NEWER`.
    pub fn check(&self, service: &ServiceName, slot: Slot) -> Result<(), Refusal> {
        let Self::Shim(shim) = self;
        shim.check(service, slot)
    }

    /// What becomes of a slot, read anew.
    pub fn status(&self, service: &ServiceName, slot: Slot) -> SlotStatus {
        let Self::Shim(shim) = self;
        shim.status(service, slot)
    }

    /// What the slot was last told to run; `None` if nothing was started there, or its order cannot be read.
    pub fn spec(&self, service: &ServiceName, slot: Slot) -> Option<SlotSpec> {
        let Self::Shim(shim) = self;
        shim.spec(service, slot)
    }

    /// Asks every process of the slot to end, kills what is left after `grace`, and waits for it. Done if nothing ran.
    ///
    /// # Errors
    /// `STOP_FAILED` if something cannot be ended.
    pub async fn stop(
        &self,
        service: &ServiceName,
        slot: Slot,
        grace: Duration,
    ) -> Result<Stopped, Refusal> {
        let Self::Shim(shim) = self;
        shim.stop(service, slot, grace).await
    }

    /// Changes whether the slot's process is started again when it ends.
    ///
    /// # Errors
    /// `START_FAILED` if nothing was started there.
    pub fn set_restart(
        &self,
        service: &ServiceName,
        slot: Slot,
        restart: Restart,
    ) -> Result<(), Refusal> {
        let Self::Shim(shim) = self;
        shim.set_restart(service, slot, restart)
    }

    /// The last `lines` lines that the slot printed, as they are.
    pub fn last_lines(&self, service: &ServiceName, slot: Slot, lines: usize) -> Vec<String> {
        let Self::Shim(shim) = self;
        shim.last_lines(service, slot, lines)
    }
}
