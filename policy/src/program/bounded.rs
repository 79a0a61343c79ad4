//! Runs a program that talks to somebody else's machine: within a time and a size, and ended with all that it started.
//! What it says is kept within bounds too, whoever wrote it.

use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};

/// The most bytes of standard output that are kept; a program that says more is ended.
const MAX_OUTPUT: usize = 8 << 20;

/// The most bytes of standard error that are kept: the last ones, where the reason stands.
const MAX_ERROR: usize = 16 << 10;

/// The most memory of its own that one process may use, in bytes.
const MEMORY: u64 = 2 << 30;

/// How often the time and the signals are looked at while nothing is heard.
const TICK: Duration = Duration::from_millis(20);

/// What a program gets to clean up behind itself (git removes its lock files) before it is killed, and what it gets to
/// finish once this process is to end.
const GRACE: Duration = Duration::from_secs(2);

/// Set once this process is to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Held while a program is started: it inherits limits that this process has only for that moment.
static LIMITS: Mutex<()> = Mutex::new(());

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The time within which it must have ended.
    pub deadline: Duration,
    /// The most bytes that one file may have that it or its children write.
    pub max_file: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// At its deadline.
    Late,
    /// Because this process is to end.
    Interrupted,
    /// Because it said too much.
    TooLong,
}

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
}

/// Tells all programs that run, now or later, that this process is to end: they have a moment to finish.
pub fn interrupt() {
    ENDING.store(true, Ordering::Relaxed);
}

/// Says whether this process is to end.
pub fn is_interrupted() -> bool {
    ENDING.load(Ordering::Relaxed)
}

/// Runs `command` with `input` within `bounds`.
///
/// # Errors
/// If it cannot be started or waited for.
pub fn run(command: &mut Command, input: &[u8], bounds: &Bounds) -> io::Result<Ended> {
    command
        // A group of its own, so that what it starts (ssh, index-pack) ends with it.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = start(command, bounds)?;
    // As large as a pipe or larger: written aside, so that what it says meanwhile is read.
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        thread::spawn(move || stdin.write_all(&input));
    }
    let (sender, heard) = mpsc::sync_channel(16);
    listen(child.stdout.take(), sender.clone(), Heard::Output);
    listen(child.stderr.take(), sender, Heard::Error);
    let mut said = Said::default();
    let end = wait(&mut child, &heard, &mut said, bounds)?;
    // A process that outlives it, such as ssh's connection for later, may keep the pipes open.
    let until = Instant::now() + TICK * 10;
    while let Ok(part) = heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
        said.add(part);
    }
    Ok(Ended {
        end: if said.too_long { End::TooLong } else { end },
        stdout: said.stdout,
        stderr: said.stderr,
    })
}

/// Waits until it ends, or ends it.
fn wait(
    child: &mut Child,
    heard: &Receiver<Heard>,
    said: &mut Said,
    bounds: &Bounds,
) -> io::Result<End> {
    let begun = Instant::now();
    let mut interrupted = None;
    loop {
        match heard.recv_timeout(TICK) {
            Ok(part) => said.add(part),
            Err(RecvTimeoutError::Timeout) => {}
            // It has closed its outputs: it is about to end.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK / 10),
        }
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exited(status));
        }
        if interrupted.is_none() && is_interrupted() {
            interrupted = Some(Instant::now());
        }
        let end = if said.too_long {
            End::TooLong
        } else if begun.elapsed() >= bounds.deadline {
            End::Late
        } else if interrupted.is_some_and(|since| since.elapsed() >= GRACE) {
            End::Interrupted
        } else {
            continue;
        };
        end_group(child)?;
        return Ok(end);
    }
}

/// Ends a program that has not been waited for, and all that it started.
fn end_group(child: &mut Child) -> io::Result<()> {
    let group = Pid::from_child(child);
    let _ = kill_process_group(group, Signal::TERM);
    let since = Instant::now();
    while since.elapsed() < GRACE {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(TICK);
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()?;
    Ok(())
}

/// Starts it under limits. There is no other way to hand them over without unsafe code: this process takes them on and
/// off again.
fn start(command: &mut Command, bounds: &Bounds) -> io::Result<Child> {
    let _alone = LIMITS.lock().unwrap_or_else(PoisonError::into_inner);
    let limits = [
        (Resource::Fsize, bounds.max_file),
        (Resource::Data, MEMORY),
        (Resource::Core, 0), // a core could hold a password
    ];
    let before = limits.map(|(resource, _)| (resource, getrlimit(resource)));
    let started = limits
        .into_iter()
        .try_for_each(|(resource, most)| lower(resource, most))
        .and_then(|()| command.spawn());
    for (resource, limit) in before {
        setrlimit(resource, limit)?;
    }
    started
}

/// Sets the soft limit; the hard one stays, so that it can be taken off again.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let before = getrlimit(resource);
    let least = |limit: Option<u64>| limit.map_or(most, |limit| most.min(limit));
    let limit = Rlimit {
        current: Some(least(before.current)),
        maximum: before.maximum,
    };
    Ok(setrlimit(resource, limit)?)
}

/// A part of what a program says.
enum Heard {
    Output(Vec<u8>),
    Error(Vec<u8>),
}

/// Sends on what `stream` says, until it is closed.
fn listen<R: Read + Send + 'static>(
    stream: Option<R>,
    sender: SyncSender<Heard>,
    part: fn(Vec<u8>) -> Heard,
) {
    let Some(mut stream) = stream else { return };
    thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if sender.send(part(buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
}

#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    too_long: bool,
}

impl Said {
    fn add(&mut self, part: Heard) {
        match part {
            Heard::Output(bytes) if self.stdout.len() + bytes.len() > MAX_OUTPUT => {
                self.too_long = true;
            }
            Heard::Output(bytes) => self.stdout.extend(bytes),
            Heard::Error(bytes) => {
                self.stderr.extend(bytes);
                let excess = self.stderr.len().saturating_sub(MAX_ERROR);
                self.stderr.drain(..excess);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn sh(script: &str, input: &[u8], deadline: Duration, max_file: u64) -> Ended {
        let bounds = Bounds { deadline, max_file };
        run(Command::new("sh").args(["-c", script]), input, &bounds).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);
    const LARGE: u64 = 1 << 30;

    #[test]
    fn what_is_larger_than_a_pipe_passes_in_every_direction() {
        let input = vec![b'x'; 1 << 20];
        let ended = sh("tee /dev/stderr", &input, LONG, LARGE);
        assert!(matches!(ended.end, End::Exited(status) if status.success()));
        assert_eq!(ended.stdout, input);
        assert_eq!(ended.stderr.len(), MAX_ERROR);
    }

    #[test]
    fn what_hangs_is_ended_at_its_deadline_with_its_children() {
        let begun = Instant::now();
        let script = "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000";
        let ended = sh(script, b"", Duration::from_millis(50), LARGE);
        assert_eq!(ended.end, End::Late);
        assert!(begun.elapsed() < LONG);
        let child = String::from_utf8(ended.stdout).unwrap();
        let lives = || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            status.is_ok_and(|status| !status.contains(") Z "))
        };
        while lives() {
            assert!(begun.elapsed() < LONG, "{child}");
            thread::sleep(TICK);
        }
    }

    #[test]
    fn what_writes_or_says_too_much_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "exec head -c 100000 /dev/zero > {}/file",
            folder.path().display()
        );
        let End::Exited(status) = sh(&script, b"", LONG, 1 << 10).end else {
            panic!("it ended by itself");
        };
        assert_eq!(status.signal(), Some(Signal::XFSZ.as_raw()));
        let ended = sh("exec yes", b"", LONG, LARGE);
        assert_eq!(ended.end, End::TooLong);
        assert!(ended.stdout.len() <= MAX_OUTPUT);
        assert_eq!(
            getrlimit(Resource::Fsize).current,
            None,
            "this process is not limited"
        );
    }
}
