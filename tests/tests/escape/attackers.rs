//! The attackers on the host: the service that is in their hands, and an account that is none of the host's; and what they
//! are after there.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::{program, wait};

use crate::yard::Yard;

/// An account that nobody has, and the group that may look at the agent.
pub(crate) const STRANGER: u32 = 54_321;
pub(crate) const LOOKERS: u32 = 54_322;

impl Yard {
    /// The attacker's service does something, with the rights that it has.
    pub(crate) fn mallory(&self, words: &[&str]) -> Result<String, String> {
        ask(self.port(), words)
    }

    /// Where the attacker's service is asked.
    pub(crate) fn port(&self) -> u16 {
        self.mallory.port.unwrap()
    }

    /// Another account of the machine does something.
    pub(crate) fn stranger(&self, group: u32, words: &[&str]) -> Result<String, String> {
        let outcome = program::run(self.stranger_command(group).args(words));
        match outcome.code {
            0 => Ok(outcome.stdout),
            _ => Err(outcome.stderr),
        }
    }

    fn stranger_command(&self, group: u32) -> Command {
        let mut command = Command::new(self.intruder());
        command
            .env_clear()
            .uid(STRANGER)
            .gid(group)
            .stdin(Stdio::null());
        command
    }

    /// The same, for something that goes on until the value is dropped; an error if it cannot begin.
    pub(crate) fn stranger_goes_on(&self, group: u32, words: &[&str]) -> Result<Going, String> {
        let mut command = self.stranger_command(group);
        command
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line.trim() == "held" {
            return Ok(Going(child));
        }
        let output = child.wait_with_output().unwrap();
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The process of a service, and its variables.
    pub(crate) fn process(&self, service: &str) -> (u32, String) {
        let mark = format!("services/{service}/data");
        let found = self.host.processes().into_iter().find_map(|pid| {
            let variables = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let variables = String::from_utf8_lossy(&variables).replace('\0', "\n");
            let is = |line: &str| line.starts_with("STATE_DIRECTORY=") && line.ends_with(&mark);
            variables.lines().any(is).then_some((pid, variables))
        });
        found.unwrap()
    }

    /// The process that supervises a service.
    pub(crate) fn shim(&self, service: &str) -> u32 {
        let (pid, _) = self.process(service);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.unwrap().trim().parse().unwrap()
    }

    /// The agent's process.
    pub(crate) fn agent(&self) -> u32 {
        let status = self.host.status();
        u32::try_from(status["agent"]["pid"].as_u64().unwrap()).unwrap()
    }

    /// The proxy's process.
    pub(crate) fn proxy(&self) -> u32 {
        let is_proxy = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"proxy")
        };
        self.host.processes().into_iter().find(is_proxy).unwrap()
    }
}

/// Something that a stranger does until this is dropped.
pub(crate) struct Going(Child);

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says whether a file or folder, or something in it, is not root's any more.
pub(crate) fn changed_hands(path: &Path) -> bool {
    let is_others = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|status| status.uid() != 0)
    };
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    is_others(path)
        || entries
            .map(|entry| entry.path())
            .any(|path| is_others(&path))
}

/// Waits until somebody holds the lock at `path`, or `gave_up` says that nobody will.
pub(crate) fn is_held(path: &str, mut gave_up: impl FnMut() -> bool) -> bool {
    wait::until("the lock is held, or not", Duration::from_secs(10), || {
        if gave_up() {
            return Some(false);
        }
        let lock = File::open(path).ok()?;
        lock.try_lock().is_err().then_some(true)
    })
}

/// Has the service on `port` do something.
pub(crate) fn ask(port: u16, words: &[&str]) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("no answer: {error}");
    let body = words.join("\n");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .map_err(failed)?;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, said) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(said.to_owned()),
        _ => Err(said.to_owned()),
    }
}

/// Has a process go on that somebody may have stopped.
pub(crate) fn wake(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, Signal::CONT);
    }
}
