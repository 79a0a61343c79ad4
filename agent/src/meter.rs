//! What a command of a build uses, held against `build.limits` while it runs. Limits of the kernel alone would not do:
//! those of a process say nothing about a hundred of them, and a build that meets one fails with words of its own.

mod disk;
mod processes;

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use state::service::BuildLimits;
use state::unit::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::processes::Seen;
use crate::runner::process::ProcessId;

pub(crate) use disk::{ENTRY, usage};

/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often folders are.
const WALK: Duration = Duration::from_millis(500);
/// Looking takes at most one part in so many of a processor.
const SHARE: u32 = 10;

/// What may be used, and where it is counted.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    /// The limits.
    pub(crate) limits: BuildLimits,
    /// The folders that commands may write to.
    folders: Arc<[PathBuf]>,
    /// What they held before, of which the build may make use.
    before: u64,
}

/// A limit that was passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    name: &'static str,
    limit: String,
    used: String,
}

impl Excess {
    /// More than `limit` was used of what the field `name` bounds.
    pub(crate) fn new(name: &'static str, limit: impl Display, used: impl Display) -> Self {
        Self {
            name,
            limit: limit.to_string(),
            used: used.to_string(),
        }
    }

    /// Says whether it is disk space that was used.
    pub(crate) fn is_disk(&self) -> bool {
        self.name == "disk"
    }

    fn of_bytes(name: &'static str, limit: Bytes, used: u64) -> Self {
        Self::new(name, limit, format_args!("{} KiB", used.div_ceil(1024)))
    }
}

impl Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, limit, used } = self;
        write!(
            f,
            "build.limits.{name} is {limit}, and the build used {used}"
        )
    }
}

impl Meter {
    /// Counts `folders`, in which `before` bytes are not the build's.
    pub(crate) fn new(limits: BuildLimits, folders: Vec<PathBuf>, before: u64) -> Self {
        Self {
            limits,
            folders: folders.into(),
            before,
        }
    }

    /// Looks at the processes at and below `root` until one limit is passed.
    pub(crate) async fn exceeded(&self, root: Option<ProcessId>) -> Excess {
        let mut walk = Instant::now() + WALK;
        loop {
            sleep(LOOK).await;
            let (meter, walks) = (self.clone(), Instant::now() >= walk);
            let look = move || {
                let begun = Instant::now();
                let seen = root.map(|root| processes::look(root, &meter.folders));
                let seen = seen.unwrap_or_default();
                let excess = meter.of_processes(&seen);
                let looked = begun.elapsed();
                let excess = excess.or_else(|| walks.then(|| meter.of_folders(&seen)).flatten());
                (excess, looked, begun.elapsed())
            };
            // A look that panicked is one that saw nothing.
            let Ok((excess, looked, all)) = spawn_blocking(look).await else {
                continue;
            };
            if let Some(excess) = excess {
                return excess;
            }
            if walks {
                walk = Instant::now() + WALK.max(SHARE * all);
            }
            sleep((SHARE * looked).saturating_sub(LOOK)).await;
        }
    }

    fn of_processes(&self, seen: &Seen) -> Option<Excess> {
        let limits = &self.limits;
        if seen.tasks > limits.tasks.into() {
            return Some(Excess::new("tasks", limits.tasks, seen.tasks));
        }
        let memory = seen.memory(limits.memory.0);
        (memory > limits.memory.0).then(|| Excess::of_bytes("memory", limits.memory, memory))
    }

    fn of_folders(&self, seen: &Seen) -> Option<Excess> {
        let limit = self.limits.disk;
        let most = limit.0.saturating_add(self.before);
        let mut used = seen.deleted;
        for folder in &*self.folders {
            used = used.saturating_add(usage(folder, most.saturating_sub(used)));
        }
        let used = used.saturating_sub(self.before);
        (used > limit.0).then(|| Excess::of_bytes("disk", limit, used))
    }

    /// What is left behind, once nothing runs any more: a command may be done before it is looked at. Blocks.
    pub(crate) fn left_behind(&self) -> Option<Excess> {
        self.of_folders(&Seen::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_there_before_is_not_the_builds() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kept"), [1; 100_000]).unwrap();
        let folders = vec![folder.path().to_owned()];
        let before = usage(folder.path(), u64::MAX);
        let limits = BuildLimits {
            disk: Bytes(64 << 10),
            ..BuildLimits::default()
        };
        let meter = Meter::new(limits, folders, before);
        fs::write(folder.path().join("new"), [1; 50_000]).unwrap();
        assert_eq!(meter.left_behind(), None);
        fs::write(folder.path().join("more"), [1; 50_000]).unwrap();
        let excess = meter.left_behind().unwrap().to_string();
        assert!(
            excess.starts_with("build.limits.disk is 64KiB, and the build used 1"),
            "{excess}"
        );
    }
}
