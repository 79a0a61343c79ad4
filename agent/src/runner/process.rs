//! Processes as `/proc` shows them: told apart by pid *and* start time, because a pid is given again.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use procfs::process::{Process, Stat, all_processes};
use rustix::io;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since the boot.
    pub started: u64,
}

impl ProcessId {
    /// The process that has `pid` now, dead or alive, until it is waited for.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Process::new(pid.try_into().ok()?).and_then(|process| process.stat());
        stat.ok().map(|stat| Self::from(&stat))
    }

    /// Says whether it runs: not another process with its pid, and not dead and waiting to be waited for.
    pub fn is_alive(self) -> bool {
        let stat =
            i32::try_from(self.pid).map(|pid| Process::new(pid).and_then(|process| process.stat()));
        matches!(stat, Ok(Ok(stat)) if Self::from(&stat) == self && is_running(&stat))
    }

    /// Sends `signal` to this very process; done if it is gone.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        // Opened before it is looked at: from here on the descriptor means what was looked at, or nothing.
        let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|process| {
            if self.is_alive() {
                pidfd_send_signal(process, signal)
            } else {
                Ok(())
            }
        });
        match sent {
            Err(io::Errno::SRCH) => Ok(()),
            sent => sent,
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", self.pid));
        match comm {
            Ok(comm) => write!(f, "process {} ({})", self.pid, comm.trim_end()),
            Err(_) => write!(f, "process {}", self.pid),
        }
    }
}

impl From<&Stat> for ProcessId {
    fn from(stat: &Stat) -> Self {
        Self {
            pid: stat.pid.cast_unsigned(),
            started: stat.starttime,
        }
    }
}

fn is_running(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X' | 'x')
}

/// Every process of this host that can be seen and is not dead.
pub(super) fn running() -> Vec<Stat> {
    let all = all_processes().into_iter().flatten();
    let stats = all.filter_map(|process| process.ok()?.stat().ok());
    stats.filter(is_running).collect()
}

/// All processes below `root`, without itself. Complete if `root` is a subreaper: then none of them can leave.
pub fn descendants(root: u32) -> Vec<ProcessId> {
    below(root).iter().map(ProcessId::from).collect()
}

/// The same, with what the kernel says of each.
pub(crate) fn below(root: u32) -> Vec<Stat> {
    let mut children: HashMap<u32, Vec<Stat>> = HashMap::new();
    for stat in running() {
        let parent = stat.ppid.cast_unsigned();
        children.entry(parent).or_default().push(stat);
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        parents.extend(below.iter().map(|stat| stat.pid.cast_unsigned()));
        found.extend(below);
    }
    found
}

/// The kernel's name for the time since the host was started. Empty if it does not say.
pub fn boot_id() -> String {
    static BOOT: OnceLock<String> = OnceLock::new();
    let read = || procfs::sys::kernel::random::boot_id().unwrap_or_default();
    BOOT.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio, id};
    use std::time::{Duration, Instant};

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let me = ProcessId::of(id()).unwrap();
        assert!(me.is_alive());
        let other = ProcessId {
            started: me.started + 1,
            ..me
        };
        assert!(!other.is_alive());
        other.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn grandchildren_are_found_and_the_dead_are_not() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while descendants(shell.id()).len() != 1 {
            assert!(
                Instant::now() < deadline,
                "the shell never started its child"
            );
        }
        let child = descendants(shell.id())[0];
        let shell_id = ProcessId::of(shell.id()).unwrap();
        child.signal(Signal::KILL).unwrap();
        shell_id.signal(Signal::KILL).unwrap();
        while shell_id.is_alive() || child.is_alive() {
            assert!(Instant::now() < deadline, "a killed process lives on");
        }
        assert!(
            !descendants(id()).contains(&shell_id),
            "the dead shell is not waited for yet"
        );
        shell.wait().unwrap();
    }
}
