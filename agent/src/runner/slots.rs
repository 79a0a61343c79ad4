//! The agent's side of the shims: starts one for a slot, finds it again, ends it, and ends what a killed one left behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use state::durable::{self, Extra, Format};
use state::lock;
use state::name::ServiceName;
use state::{Code, Refusal};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::members::{self, Members};
use super::order::{Order, State, load, order_path, save, state_path};
use super::process::{ProcessId, boot_id};
use super::shim::signal;
use super::{Restart, SlotSpec, SlotStatus, Stopped, log};
use crate::disk::failed;
use crate::layout::Layout;
use crate::slot::Slot;

/// How often a file or a process is looked at again.
const LOOK: Duration = Duration::from_millis(10);
/// How long a shim may take to say that its process was started, or could not be.
const STARTED: Duration = Duration::from_secs(10);
/// How much longer than its slot's grace a shim may take to end.
const ENDED: Duration = Duration::from_secs(15);

/// Starts `agent shim` for each slot.
#[derive(Clone, Debug)]
pub struct Shim {
    /// Where the slots' files lie.
    pub(super) layout: Layout,
    /// The agent.
    pub(super) program: PathBuf,
}

impl Shim {
    fn slot(&self, service: &ServiceName, slot: Slot) -> PathBuf {
        self.layout.service(service).slot(slot)
    }

    pub(super) fn check(&self, service: &ServiceName, slot: Slot) -> Result<(), Refusal> {
        let slot = self.slot(service, slot);
        durable::check_file(&order_path(&slot))?;
        durable::check_file(&state_path(&slot))
    }

    pub(super) fn status(&self, service: &ServiceName, slot: Slot) -> SlotStatus {
        let state = load::<State>(&state_path(&self.slot(service, slot)));
        state.map_or(SlotStatus::Absent, State::status)
    }

    pub(super) fn spec(&self, service: &ServiceName, slot: Slot) -> Option<SlotSpec> {
        load::<Order>(&order_path(&self.slot(service, slot))).map(|order| order.spec)
    }

    pub(super) async fn start(&self, spec: &SlotSpec) -> Result<(), Refusal> {
        let slot = self.slot(&spec.service, spec.slot);
        // One that could not start its process is about to end.
        let runs = load::<State>(&state_path(&slot))
            .filter(|state| state.is_supervised() && state.failure.is_none());
        if runs.is_some_and(|state| state.attempt == spec.attempt) {
            self.set_restart(&spec.service, spec.slot, spec.restart)?;
            return self.started(&slot, spec, None).await;
        }
        let before = self.spec(&spec.service, spec.slot);
        let grace = before.map_or(spec.stop, |before| before.stop).within;
        self.stop(&spec.service, spec.slot, grace.duration())
            .await?;

        let mut marked = spec.clone();
        let mark =
            members::mark(&spec.service, spec.slot).map_err(|error| failed(&slot, &error))?;
        let variable = members::VARIABLE.to_owned();
        marked.environment.insert(variable, mark);
        let order = Order {
            format: Format::current(),
            spec: marked,
            log: self.layout.service(&spec.service).log(spec.slot),
            grace: spec.stop.within.duration(),
            extra: Extra::default(),
        };
        save(&order_path(&slot), &order).map_err(|error| failed(&slot, &error))?;
        let mut command = Command::new(&self.program);
        command.arg("shim").arg(&slot).env_clear().current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| failed(&self.program, &error))?;
        self.started(&slot, spec, Some(child)).await
    }

    /// Waits until the shim says that the process was started.
    async fn started(
        &self,
        slot: &Path,
        spec: &SlotSpec,
        mut child: Option<Child>,
    ) -> Result<(), Refusal> {
        let refuse = |why: String| {
            Err(Refusal::new(
                Code::StartFailed,
                format!("{} {}: {why}", spec.service, spec.slot),
            ))
        };
        let deadline = Instant::now() + STARTED;
        while Instant::now() < deadline {
            let dead = child
                .as_mut()
                .is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            match load::<State>(&state_path(slot)).filter(|state| state.attempt == spec.attempt) {
                Some(State {
                    failure: Some(failure),
                    ..
                }) => return refuse(failure),
                Some(state) if state.process.is_some() || state.exit.is_some() => return Ok(()),
                _ if dead => return refuse("its supervisor ended at once".into()),
                _ => sleep(LOOK).await,
            }
        }
        refuse(format!("its supervisor did not answer within {STARTED:?}"))
    }

    pub(super) fn set_restart(
        &self,
        service: &ServiceName,
        slot: Slot,
        restart: Restart,
    ) -> Result<(), Refusal> {
        let slot = self.slot(service, slot);
        let missing = || {
            Refusal::new(
                Code::StartFailed,
                format!("nothing was started in '{}'", slot.display()),
            )
        };
        let mut order = load::<Order>(&order_path(&slot)).ok_or_else(missing)?;
        order.spec.restart = restart;
        save(&order_path(&slot), &order).map_err(|error| failed(&slot, &error))
    }

    pub(super) async fn stop(
        &self,
        service: &ServiceName,
        slot: Slot,
        grace: Duration,
    ) -> Result<Stopped, Refusal> {
        let slot = self.slot(service, slot);
        let state = load::<State>(&state_path(&slot));
        let mut stopped = Stopped::Asked;
        // Of another boot nothing is left.
        if state.as_ref().is_none_or(|state| state.boot == boot_id()) {
            stopped = end_slot(&slot, state, grace).await?;
        }
        for file in [state_path(&slot), order_path(&slot)] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&file, &error));
                }
                _ => {}
            }
        }
        Ok(stopped)
    }

    pub(super) fn last_lines(
        &self,
        service: &ServiceName,
        slot: Slot,
        lines: usize,
    ) -> Vec<String> {
        log::last_lines(&self.layout.service(service).log(slot), lines)
    }
}

/// Ends the supervisor of the slot, which ends what it supervises, and then whatever else is left of it.
async fn end_slot(slot: &Path, state: Option<State>, grace: Duration) -> Result<Stopped, Refusal> {
    let supervisor = match state {
        Some(state) => Some(state.supervisor),
        None => supervisor(slot),
    };
    let (mut asked, mut mark) = (Signal::TERM, None);
    if let Some(mut order) = load::<Order>(&order_path(slot)) {
        order.grace = grace;
        asked = signal(order.spec.stop.signal);
        mark = order.spec.environment.get(members::VARIABLE).cloned();
        // On a full disk the slot is stopped all the same, with the grace of its order.
        let _ = save(&order_path(slot), &order);
    }
    if let Some(supervisor) = supervisor {
        // A shim that does not answer is killed, and then what it supervised.
        let alive = move || Vec::from_iter(supervisor.is_alive().then_some(supervisor));
        // To a shim this means: end the slot.
        end(alive, Signal::TERM, grace + ENDED).await?;
    }
    let members = Members {
        leader: supervisor,
        mark,
    };
    let left = end(move || members.find(), asked, grace).await?;
    let state = load::<State>(&state_path(slot));
    if left == Stopped::Killed || state.is_some_and(|state| state.killed) {
        return Ok(Stopped::Killed);
    }
    Ok(Stopped::Asked)
}

/// The supervisor of a slot whose state cannot be read: it holds the lock of the slot, and was started for it.
fn supervisor(slot: &Path) -> Option<ProcessId> {
    let process = ProcessId::of(lock::held_by(&slot.join("lock"))?)?;
    let arguments = fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
    let path = slot.as_os_str().as_encoded_bytes();
    let is_named = arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == path);
    is_named.then_some(process)
}

/// Asks the processes that `find` finds to end, kills those that are left after `grace`, and waits until there are none.
async fn end(
    find: impl Fn() -> Vec<ProcessId> + Clone + Send + 'static,
    asked: Signal,
    grace: Duration,
) -> Result<Stopped, Refusal> {
    let refuse = |detail: String| Refusal::new(Code::StopFailed, detail);
    let mut left = Vec::new();
    for (signal, time, stopped) in [
        (asked, grace, Stopped::Asked),
        (Signal::KILL, ENDED, Stopped::Killed),
    ] {
        let deadline = Instant::now() + time;
        let mut told = false;
        loop {
            // They may have started others meanwhile; until they are gone they are all that is looked at.
            if !told || !left.iter().any(|process: &ProcessId| process.is_alive()) {
                let find = find.clone();
                let found = spawn_blocking(find).await;
                left = found.map_err(|error| refuse(error.to_string()))?;
                if left.is_empty() {
                    return Ok(stopped);
                }
                for process in &left {
                    process.signal(signal).map_err(|error| {
                        refuse(format!("{process} cannot be told to end: {error}"))
                    })?;
                }
                told = true;
            }
            if Instant::now() >= deadline {
                break;
            }
            sleep(LOOK).await;
        }
    }
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(refuse(format!("{} cannot be killed", left.join(", "))))
}
