//! The process `agent shim`: starts one slot's process, takes what it prints, starts it again, ends it. The agent may
//! come and go meanwhile. SIGTERM means: end the slot; everything else it is told is in the order's file.
//!
//! Being a subreaper, it is the ancestor of all that the slot starts, also of what turns itself into a daemon.

use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Signal, WaitOptions, getpid, set_child_subreaper, setsid, wait};
use signal_hook::consts::{SIGCHLD, SIGTERM};
use signal_hook::iterator::Signals;
use state::durable::Extra;
use state::service::StopSignal;

use super::log::Log;
use super::order::{Order, State, load, order_path, save, state_path};
use super::process::{ProcessId, boot_id, descendants};
use super::{Exit, Restart};
use crate::{privilege, spawn};

/// The wait before the first start again; it doubles with each.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest such wait, and the time that a process must have run for the wait to begin anew.
const LAST_DELAY: Duration = Duration::from_secs(60);
/// How often processes that were killed are looked for again.
const LOOK: Duration = Duration::from_millis(50);
/// How long a killed process may take to vanish; one that the kernel cannot end is left to it.
const VANISH: Duration = Duration::from_secs(10);
/// How long the log may take to end after the last process.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs what the order in the folder `slot` says until it ends for good or is told to stop.
///
/// # Errors
/// What keeps it from beginning; how the slot's process fares is in the slot's state.
pub fn run(slot: &Path) -> io::Result<()> {
    // An error means that it leads a session already, as when it is started by hand.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    privilege::keep_to_itself()?;
    // Held until the end: an agent that was killed while it started this one may start another.
    let lock = File::create(slot.join("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let order: Order = load(&order_path(slot)).ok_or(io::ErrorKind::NotFound)?;
    if order.spec.user.is_some() {
        privilege::renounce()?;
    }
    let signals = signals()?;
    let (reader, output) = io::pipe()?;
    let (flushed, flush) = channel();
    let log = Log::new(order.log.clone());
    thread::spawn(move || {
        log.drain(reader);
        flushed.send(())
    });

    let supervisor = ProcessId::of(std::process::id()).ok_or(io::ErrorKind::NotFound)?;
    let mut shim = Shim {
        slot: slot.to_owned(),
        state: State {
            format: order.format,
            attempt: order.spec.attempt.clone(),
            boot: boot_id(),
            supervisor,
            process: None,
            since: Timestamp::now(),
            restarts: 0,
            exit: None,
            failure: None,
            extra: Extra::default(),
            killed: false,
        },
        order,
        output,
        signals,
    };
    shim.run();
    drop(shim);
    let _ = flush.recv_timeout(FLUSH);
    Ok(())
}

/// The signals that the shim acts upon, in the order in which they come.
fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGCHLD])?;
    let (sender, receiver) = channel();
    thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(signal)));
    Ok(receiver)
}

struct Shim {
    slot: PathBuf,
    order: Order,
    state: State,
    output: PipeWriter,
    signals: Receiver<i32>,
}

impl Shim {
    fn run(&mut self) {
        // Known before anything is started: should the shim be killed now, its session is found by its pid.
        self.save();
        let mut delay = FIRST_DELAY;
        loop {
            let begun = Instant::now();
            let ended = match self.start() {
                Ok(process) => self.watch(process),
                Err(error) => Some(self.fail(&error)),
            };
            let Some(exit) = ended else { return };
            self.kill_all();
            self.state.process = None;
            self.state.exit = Some(exit);
            self.save();
            if begun.elapsed() >= LAST_DELAY {
                delay = FIRST_DELAY;
            }
            if !self.starts_again() || !self.pause(delay) || !self.starts_again() {
                return;
            }
            delay = LAST_DELAY.min(delay * 2);
            self.state.restarts += 1;
        }
    }

    /// Starts the process of the slot.
    fn start(&mut self) -> io::Result<ProcessId> {
        let spec = &self.order.spec;
        let app = spec.release.join("app");
        let (program, arguments) = spec
            .command
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = spawn::command(&app, program, &spec.environment);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(self.output.try_clone()?)
            .stderr(self.output.try_clone()?);
        command.process_group(0);
        if let Some(user) = &spec.user {
            command.uid(user.uid).gid(user.gid);
        }
        // Not waited for through `child`: `reap` waits for it and for what it leaves behind alike.
        let child = command.spawn()?;
        let process = ProcessId::of(child.id()).ok_or(io::ErrorKind::NotFound)?;
        self.state.process = Some(process);
        self.state.since = Timestamp::now();
        self.state.failure = None;
        self.save();
        Ok(process)
    }

    /// Notes why the process cannot be started; the exit code is the one that shells give.
    fn fail(&mut self, error: &io::Error) -> Exit {
        let program = self.order.spec.command.first().map_or("", String::as_str);
        self.say(&format!("cannot start '{program}': {error}"));
        self.state.failure = Some(format!("cannot start '{program}': {error}"));
        Exit::Code(127)
    }

    /// Waits for the end of the process. `None`: the slot was stopped.
    fn watch(&mut self, process: ProcessId) -> Option<Exit> {
        loop {
            if self.signals.recv() != Ok(SIGCHLD) {
                self.stop();
                return None;
            }
            if let Some(exit) = reap(process.pid).exit {
                self.say(&format!("process {} ended: {exit}", process.pid));
                return Some(exit);
            }
        }
    }

    /// Waits until it is time to start again. False: the slot was stopped meanwhile.
    fn pause(&self, delay: Duration) -> bool {
        let deadline = Instant::now() + delay;
        loop {
            match self
                .signals
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(SIGCHLD) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                _ => return false,
            }
        }
    }

    /// Says whether the process is to be started again, as the order says now.
    fn starts_again(&mut self) -> bool {
        if let Some(order) = load(&order_path(&self.slot)) {
            self.order = order;
        }
        self.order.spec.restart == Restart::Always
    }

    /// Asks every process to end, and kills what has not after the order's time.
    fn stop(&mut self) {
        if let Some(order) = load(&order_path(&self.slot)) {
            self.order = order;
        }
        let grace = self.order.grace;
        let deadline = Instant::now() + grace;
        signal_all(signal(self.order.spec.stop.signal));
        while reap(0).any_left && Instant::now() < deadline {
            let _ = self
                .signals
                .recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        if reap(0).any_left {
            self.state.killed = true;
            self.say(&format!("killed what did not end within {grace:?}"));
        }
        self.kill_all();
        self.state.process = None;
        self.save();
    }

    /// Kills every process that is left, and waits for it.
    fn kill_all(&self) {
        let deadline = Instant::now() + VANISH;
        while reap(0).any_left && Instant::now() < deadline {
            signal_all(Signal::KILL);
            let _ = self.signals.recv_timeout(LOOK);
        }
    }

    /// Writes the state. A full disk is no reason to end what runs; the next change writes it again.
    fn save(&self) {
        if let Err(error) = save(&state_path(&self.slot), &self.state) {
            self.say(&format!("cannot write the slot's state: {error}"));
        }
    }

    /// Puts a line of the shim's own into the log.
    fn say(&self, line: &str) {
        let _ = (&self.output).write_all(format!("writ: {line}\n").as_bytes());
    }
}

/// What waiting for ended children brought.
struct Reaped {
    /// How the process that was asked for ended.
    exit: Option<Exit>,
    /// Whether there are children left. None left means that no descendant is: an orphan would be a child.
    any_left: bool,
}

/// Waits for every child that has ended; `pid` is the one whose end is of interest.
fn reap(pid: u32) -> Reaped {
    let mut exit = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((child, status))) => {
                if child.as_raw_nonzero().get().cast_unsigned() == pid {
                    exit = Some(Exit::from(ExitStatus::from_raw(status.as_raw())));
                }
            }
            left => {
                return Reaped {
                    exit,
                    any_left: left.is_ok(),
                };
            }
        }
    }
}

/// The signal by its name in a release.
pub(super) const fn signal(name: StopSignal) -> Signal {
    match name {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
    }
}

/// Sends `signal` to every process below this one.
fn signal_all(signal: Signal) {
    for process in descendants(std::process::id()) {
        // One that may not be signalled (it changed its user) is left to the next look.
        let _ = process.signal(signal);
    }
}
