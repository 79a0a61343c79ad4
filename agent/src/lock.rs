//! One agent a host: the lock that every change of the agent's files is made under.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use state::{Code, Refusal};

use crate::disk;

/// The held lock; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct AgentLock {
    _file: File,
}

impl AgentLock {
    /// Takes the lock at `path`, or refuses at once if another process holds it.
    pub fn take(path: &Path) -> Result<Self, Refusal> {
        let unsafe_at = |error: std::io::Error| disk::failed(path, &error);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(path).map_err(unsafe_at)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Refusal::new(
                Code::AlreadyRunning,
                format!("{} is locked", path.display()),
            )),
            Err(TryLockError::Error(error)) => Err(unsafe_at(error)),
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
}
