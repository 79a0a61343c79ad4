//! One agent a host: the lock that every change of the agent's files is made under.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use state::{Code, Refusal};

use crate::disk;

/// How long a command is waited for that looks something up while no agent runs.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the lock is tried meanwhile.
const INTERVAL: Duration = Duration::from_millis(20);

/// The held lock; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct AgentLock {
    _file: File,
}

impl AgentLock {
    /// Takes the lock at `path`, or refuses if another process holds it for longer than a short command does. Blocks.
    pub fn take(path: &Path) -> Result<Self, Refusal> {
        let unsafe_at = |error: std::io::Error| disk::failed(path, &error);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(path).map_err(unsafe_at)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(INTERVAL);
                }
                Err(TryLockError::WouldBlock) => {
                    let detail = format!("{} is locked", path.display());
                    return Err(Refusal::new(Code::AlreadyRunning, detail));
                }
                Err(TryLockError::Error(error)) => return Err(unsafe_at(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        let first = AgentLock::take(&path).unwrap();
        assert_eq!(
            AgentLock::take(&path).unwrap_err().code,
            Code::AlreadyRunning
        );
        drop(first);
        assert!(AgentLock::take(&path).is_ok());
    }

    #[test]
    fn a_command_that_ends_soon_does_not_keep_an_agent_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        let command = AgentLock::take(&path).unwrap();
        let agent = thread::spawn(move || AgentLock::take(&path));
        drop(command);
        assert!(agent.join().unwrap().is_ok());
    }
}
