//! The resident process that fetches: what a remote sends is received and unpacked there, under limits, so that nothing
//! it breaks is ours. It lives from pass to pass, and its connections with it. It leads a process group, in which also
//! the `ssh` is that it starts, and which ends as a whole.
//!
//! Request and answer are JSON behind a length of four bytes, on the child's standard input and output.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpgrp, getpid, getrlimit, kill_current_process_group,
    kill_process_group, setrlimit,
};

use super::fetch::{Fetched, Fetcher, Request};
use crate::{Code, Refusal};

/// The most memory of its own that a worker may use, in bytes: enough to index the pack of a large source repository.
const MEMORY: u64 = 2 << 30;

/// The longest request or answer, in bytes.
const MAX_MESSAGE: u32 = 1 << 20;

/// How long after a request's deadline the worker is killed: time for it to say itself what was slow.
const GRACE: Duration = Duration::from_secs(1);

/// What the worker sends back.
type Answer = Result<Fetched, Refusal>;

/// A child process that answers fetch requests; started when first needed and again after it broke.
#[derive(Debug)]
pub struct Worker {
    program: PathBuf,
    args: Vec<OsString>,
    running: Option<Running>,
}

impl Worker {
    /// Prepares a worker; `program` with `args` must call [`serve`] (`agent fetch-worker`).
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self {
            program,
            args,
            running: None,
        }
    }

    /// Has the worker fetch, and waits for its answer. Kills it at the request's deadline.
    ///
    /// # Errors
    /// Those of [`Fetcher::fetch`]; `FETCH_FAILED` also if the worker cannot be started or dies, `FETCH_TOO_BIG` if it
    /// dies of a file that outgrew the request.
    pub fn fetch(&mut self, request: &Request) -> Answer {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start().map_err(|error| {
                let detail = format!("cannot start '{}': {error}", self.program.display());
                Refusal::new(Code::FetchFailed, detail)
            })?,
        };
        let written = to_message(request).and_then(|message| running.input.write_all(&message));
        let answer = match written {
            Ok(()) => running.answers.recv_timeout(request.deadline + GRACE),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(answer) => {
                self.running = Some(running);
                answer
            }
            Err(RecvTimeoutError::Timeout) => {
                let detail = format!("'{}': no answer within {:?}", request.url, request.deadline);
                Err(Refusal::new(Code::FetchTimeout, detail))
            }
            Err(RecvTimeoutError::Disconnected) => Err(running.obituary(request)),
        }
    }

    /// The program that the worker is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The worker's process id, while it lives: what it costs is the agent's cost too.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    fn start(&self) -> io::Result<Running> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, mut output) = pipes.ok_or_else(|| io::Error::other("it has no pipes"))?;
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(Some(answer)) = from_message(&mut output) {
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        Ok(Running {
            child,
            ended: None,
            input,
            answers,
        })
    }
}

/// A worker that was started.
#[derive(Debug)]
struct Running {
    child: Child,
    /// How it ended, once it was waited for.
    ended: Option<ExitStatus>,
    input: ChildStdin,
    answers: Receiver<Answer>,
}

impl Running {
    /// Kills the worker with all that it started; once, because the number of its group is free after the wait.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = self.child.wait()?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Says of what the worker died.
    fn obituary(&mut self, request: &Request) -> Refusal {
        // It may have closed its output and live on.
        let status = match self.end() {
            Ok(status) => status,
            Err(error) => {
                return Refusal::new(Code::FetchFailed, format!("the fetch worker: {error}"));
            }
        };
        if status.signal() == Some(Signal::XFSZ.as_raw()) {
            let detail = format!("'{}': more than {} bytes", request.url, request.max_bytes);
            return Refusal::new(Code::FetchTooBig, detail);
        }
        let detail = format!("'{}': the fetch worker ended by {status}", request.url);
        Refusal::new(Code::FetchFailed, detail)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Answers requests from standard input on standard output, under limits, and ends the process with its input: with
/// the agent's death, whatever it is doing then.
///
/// # Errors
/// If the limits cannot be set or the output is closed.
pub fn serve() -> io::Result<()> {
    limit_memory()?;
    let (sender, requests) = mpsc::sync_channel::<Request>(0);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(request)) = from_message(&mut input) {
            if sender.send(request).is_err() {
                break;
            }
        }
        // The agent is gone, and with it whoever would kill an `ssh` that hangs. (A signal at the death of a parent would
        // not do: it follows the thread that started the child.) Somebody else's group is left alone.
        if getpgrp() == getpid() {
            let _ = kill_current_process_group(Signal::KILL);
        }
        std::process::exit(0);
    });
    let mut fetcher = Fetcher::default();
    let mut output = io::stdout().lock();
    for request in requests {
        // A file beyond this kills the process (SIGXFSZ), whoever writes it.
        limit(Resource::Fsize, request.max_bytes)?;
        let answer: Answer = fetcher.fetch(&request);
        output.write_all(&to_message(&answer)?)?;
        output.flush()?;
    }
    Ok(())
}

/// Limits the memory of this process to what reading objects may take.
///
/// # Errors
/// If the limits cannot be set.
pub fn limit_memory() -> io::Result<()> {
    limit(Resource::Data, MEMORY)?;
    limit(Resource::Core, 0) // a core would hold the tokens
}

/// Sets the soft limit; the hard one stays, so that another request may set it higher.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(most, |maximum| most.min(maximum)));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}

fn to_message(value: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|length| *length <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    Ok([&length.to_be_bytes()[..], &json].concat())
}

/// Reads one message; `None` at the end of the input.
fn from_message<T: serde::de::DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("the message is too long"));
    }
    let mut json = Vec::new();
    input.take(length.into()).read_to_end(&mut json)?;
    Ok(Some(serde_json::from_slice(&json)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that is this shell script.
    fn script(text: &str) -> Worker {
        Worker::new("/bin/sh".into(), vec!["-c".into(), text.into()])
    }

    fn request() -> Request {
        Request {
            url: "/remote".into(),
            token: None,
            ca: None,
            refs: Vec::new(),
            wanted: None,
            into: "/mirror".into(),
            max_bytes: 1000,
            deadline: Duration::ZERO,
        }
    }

    #[test]
    fn a_worker_that_says_nothing_is_killed_at_the_deadline() {
        let mut worker = script("exec sleep 1000");
        let refusal = worker.fetch(&request()).unwrap_err();
        assert_eq!(refusal.code, Code::FetchTimeout, "{refusal}");
        assert_eq!(worker.id(), None);
    }

    #[test]
    fn a_worker_that_dies_says_of_what_and_another_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let once = folder.path().join("once");
        let mut worker = script(&format!(
            "test -e {0} && kill -XFSZ $$; touch {0}; exit 3",
            once.display()
        ));
        let mut request = request();
        request.deadline = Duration::from_secs(10);
        let first = worker.fetch(&request).unwrap_err();
        assert_eq!(first.code, Code::FetchFailed);
        assert!(first.detail.contains("exit status: 3"), "{first}");
        let second = worker.fetch(&request).unwrap_err();
        assert_eq!(second.code, Code::FetchTooBig, "{second}");
    }

    #[test]
    fn a_worker_that_does_not_speak_the_protocol_has_failed() {
        let mut request = request();
        request.deadline = Duration::from_secs(10);
        let refusal = script("echo hello world; exec cat")
            .fetch(&request)
            .unwrap_err();
        assert_eq!(refusal.code, Code::FetchFailed, "{refusal}");
        let mut absent = Worker::new("/nonexistent".into(), Vec::new());
        assert_eq!(absent.fetch(&request).unwrap_err().code, Code::FetchFailed);
    }

    #[test]
    fn a_message_reads_back_and_a_torn_one_is_an_error() {
        let message = to_message(&request()).unwrap();
        let back: Option<Request> = from_message(&mut &message[..]).unwrap();
        assert_eq!(back, Some(request()));
        assert!(from_message::<Request>(&mut &message[..9]).is_err());
        assert!(from_message::<Request>(&mut &[][..]).unwrap().is_none());
        assert!(from_message::<Request>(&mut &[0xff; 8][..]).is_err());
    }
}
