//! Which processes are a slot's, also when nobody supervises them any more: by the session of their supervisor, by a mark
//! among the variables that they were started with, and by descent from such a process.
//!
//! A process that left the session and took the mark off is known to nobody; a port that it holds is not used again.

use std::collections::{HashMap, HashSet};
use std::{fs, io};

use procfs::process::Stat;
use state::name::ServiceName;

use super::process::{ProcessId, running};
use crate::slot::Slot;

/// The variable that holds the mark.
pub(super) const VARIABLE: &str = "WRIT_SLOT";

/// Makes a mark that no other slot has, of this agent or of another one whose processes can be seen from here.
pub(super) fn mark(service: &ServiceName, slot: Slot) -> io::Result<String> {
    let unique = procfs::sys::kernel::random::uuid().map_err(io::Error::other)?;
    Ok(format!("{service}/{slot}/{unique}"))
}

/// By what the processes of a slot are known.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// The supervisor, which leads a session.
    pub(super) leader: Option<ProcessId>,
    /// The mark.
    pub(super) mark: Option<String>,
}

impl Members {
    /// Returns those that run. Looks at every process of the host: blocks.
    pub(super) fn find(&self) -> Vec<ProcessId> {
        if self.leader.is_none() && self.mark.is_none() {
            return Vec::new();
        }
        let all = running();
        // The kernel gives a pid again only when no session has that number; then its members are somebody else's.
        let dead = |leader: &ProcessId| !all.iter().any(|stat| pid(stat) == leader.pid);
        let leader = self.leader.filter(dead);
        let mark = self.mark.as_ref().map(|mark| format!("{VARIABLE}={mark}"));
        let is_member = |stat: &&Stat| {
            leader.is_some_and(|leader| is_led(stat, leader))
                || mark.as_ref().is_some_and(|mark| is_marked(stat, mark))
        };
        let members = all.iter().filter(is_member).collect();
        let mut found = with_descendants(members, &all);
        // An agent that a service started, to replace itself, ends no less than its service.
        found.retain(|process| process.pid != std::process::id());
        found
    }
}

/// Says whether a process is in the session of `leader`, which is dead.
fn is_led(stat: &Stat, leader: ProcessId) -> bool {
    stat.session.cast_unsigned() == leader.pid && stat.starttime >= leader.started
}

/// Says whether a process was started with the variable.
fn is_marked(stat: &Stat, variable: &str) -> bool {
    let variables = fs::read(format!("/proc/{}/environ", stat.pid)).unwrap_or_default();
    let mut variables = variables.split(|byte| *byte == 0);
    variables.any(|known| known == variable.as_bytes())
}

/// Adds to `members` what descends from them.
fn with_descendants(members: Vec<&Stat>, all: &[Stat]) -> Vec<ProcessId> {
    let mut children: HashMap<u32, Vec<&Stat>> = HashMap::new();
    for stat in all {
        let parent = stat.ppid.cast_unsigned();
        children.entry(parent).or_default().push(stat);
    }
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut left = members;
    while let Some(stat) = left.pop() {
        let process = ProcessId::from(stat);
        if !seen.insert(process.pid) {
            continue;
        }
        found.push(process);
        // While it lives its number was nobody else's when a child named it.
        if process.is_alive() {
            let children = children.remove(&process.pid).unwrap_or_default();
            let own = children.into_iter();
            left.extend(own.filter(|child| child.starttime >= process.started));
        }
    }
    found
}

const fn pid(stat: &Stat) -> u32 {
    stat.pid.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    struct Started(Child);

    impl Started {
        fn new(script: &str, mark: &str) -> Self {
            let mut command = Command::new("sh");
            command.args(["-c", script]).env(VARIABLE, mark);
            Self(command.stdout(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_mark_finds_its_own_and_what_they_started_and_nobody_else() {
        let name = "web".parse().unwrap();
        let [own, other] = [(); 2].map(|()| mark(&name, Slot::Blue).unwrap());
        assert_ne!(own, other);
        // The child takes the mark off, but not its parent.
        let parent = Started::new("env -u WRIT_SLOT setsid sleep 60 & wait", &own);
        let strangers = [
            Started::new("exec sleep 60", &other),
            Started::new("exec sleep 60", &format!("{own}0")),
        ];
        let members = Members {
            leader: None,
            mark: Some(own),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut found = members.find();
        while found.len() != 2 {
            assert!(Instant::now() < deadline, "{found:?}");
            found = members.find();
        }
        assert!(found.iter().any(|process| process.pid == parent.0.id()));
        for stranger in &strangers {
            assert!(!found.iter().any(|process| process.pid == stranger.0.id()));
        }
        for process in &found {
            process.signal(Signal::KILL).unwrap();
        }
        while !members.find().is_empty() {
            assert!(Instant::now() < deadline, "a killed process lives on");
        }
    }

    #[test]
    fn a_session_whose_number_belongs_to_somebody_else_is_left_alone() {
        let leader = ProcessId::of(std::process::id()).unwrap();
        let earlier = ProcessId {
            started: leader.started - 1,
            ..leader
        };
        let members = Members {
            leader: Some(earlier),
            mark: None,
        };
        assert_eq!(members.find(), []);
    }
}
