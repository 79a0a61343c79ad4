//! One agent a host: the lock that every change of the agent's files is made under.

use std::path::Path;
use std::time::Duration;

use state::lock::{Lock, LockError};
use state::{Code, Refusal};

use crate::disk;

/// Nobody but the agent's account may open the lock, for whoever can may hold it.
pub(crate) const MODE: u32 = 0o600;

/// How long a command is waited for that looks something up while no agent runs.
const PATIENCE: Duration = Duration::from_secs(3);

/// The held lock.
#[derive(Debug)]
pub struct AgentLock {
    _lock: Lock,
}

impl AgentLock {
    /// Takes the lock at `path`, or refuses if another process holds it for longer than a short command does. Blocks.
    ///
    /// # Errors
    /// `ALREADY_RUNNING` with the process that holds it, `STATE_UNSAFE`.
    pub fn take(path: &Path) -> Result<Self, Refusal> {
        match Lock::take(path, MODE, PATIENCE) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(LockError::Unusable(error)) => Err(disk::failed(path, &error)),
            Err(held @ LockError::Held(_)) => {
                let detail = format!("'{}': {held}", path.display());
                Err(Refusal::new(Code::AlreadyRunning, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

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
