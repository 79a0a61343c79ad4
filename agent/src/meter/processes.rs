//! How many processes a command has and how much memory they take, as `/proc` shows them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use procfs::process::Process;

use crate::runner::process::{ProcessId, below};

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Processes and threads.
    pub(super) tasks: u64,
    /// Bytes of deleted files that are held open where disk space is counted: they stand in no folder.
    pub(super) deleted: u64,
    /// Bytes of files that have no name and lie in memory: they belong to no process.
    nameless: u64,
    /// Bytes of the processes' own, where what several of them share is counted several times.
    resident: u64,
    pids: Vec<i32>,
}

/// Looks at everything below `root`; disk space is counted in `folders`.
pub(super) fn look(root: ProcessId, folders: &[PathBuf]) -> Seen {
    let mut seen = Seen::default();
    let mut open = HashMap::new();
    for stat in below(root.pid) {
        seen.tasks += u64::try_from(stat.num_threads).unwrap_or(1);
        seen.pids.push(stat.pid);
        if let Ok(status) = Process::new(stat.pid).and_then(|process| process.status()) {
            let parts = [status.rssanon, status.rssshmem, status.vmswap];
            seen.resident += parts.into_iter().flatten().sum::<u64>() * 1024;
        }
        open.extend(unlinked(stat.pid));
    }
    let metadata = folders.iter().flat_map(fs::metadata);
    let devices: Vec<u64> = metadata.map(|folder| folder.dev()).collect();
    for ((device, _), bytes) in open {
        if devices.contains(&device) {
            seen.deleted += bytes;
        } else {
            seen.nameless += bytes;
        }
    }
    seen
}

/// The files without a name that a process holds open: device, number, and the bytes they take.
fn unlinked(pid: i32) -> Vec<((u64, u64), u64)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let files = entries.into_iter().flatten().flatten();
    files
        .filter_map(|entry| fs::metadata(entry.path()).ok())
        .filter(|file| file.is_file() && file.nlink() == 0)
        .map(|file| ((file.dev(), file.ino()), file.blocks().saturating_mul(512)))
        .collect()
}

impl Seen {
    /// The bytes of memory that are taken. What processes share is told apart only if there may be more than `limit`,
    /// because that takes the kernel a while. A nameless file that is mapped counts twice.
    pub(super) fn memory(&self, limit: u64) -> u64 {
        if self.resident + self.nameless <= limit {
            return self.resident + self.nameless;
        }
        let shares = self.pids.iter().map(|pid| proportional(*pid));
        shares.sum::<Option<u64>>().unwrap_or(self.resident) + self.nameless
    }
}

/// A process's share of the memory that is not a file's; nothing if it is gone, `None` if the kernel does not tell.
fn proportional(pid: i32) -> Option<u64> {
    let Ok(process) = Process::new(pid) else {
        return Some(0);
    };
    let rollup = match process.smaps_rollup() {
        Ok(rollup) => rollup.memory_map_rollup,
        Err(_) if process.is_alive() => return None,
        Err(_) => return Some(0),
    };
    let parts = ["Pss_Anon", "Pss_Shmem", "SwapPss"];
    let map = &rollup.0.first()?.extension.map;
    parts.iter().map(|part| map.get(*part).copied()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_forked_process_shares_its_memory_and_a_nameless_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        // 64 MiB, in four processes, and a file of 8 MiB that is deleted while it is open.
        let script = "import os, time, tempfile\n\
            a = bytearray(b'x') * (64 << 20)\n\
            f = tempfile.TemporaryFile(dir='.'); f.write(bytes(8 << 20)); f.flush()\n\
            m = os.memfd_create('m'); os.write(m, bytes(4 << 20))\n\
            [os.fork() for _ in range(2)]\n\
            print('ready', flush=True); time.sleep(60)";
        let mut shell = Command::new("sh")
            .args(["-c", "python3 -; exit"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        shell
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        let root = ProcessId::of(shell.id()).unwrap();
        let folders = [folder.path().to_owned()];
        let deadline = Instant::now() + Duration::from_secs(20);
        let seen = loop {
            let seen = look(root, &folders);
            if seen.tasks == 4 && seen.deleted >= 8 << 20 && seen.nameless >= 4 << 20 {
                break seen;
            }
            assert!(Instant::now() < deadline, "{seen:?}");
            std::thread::sleep(Duration::from_millis(10));
        };
        let (rough, exact) = (seen.memory(u64::MAX) >> 20, seen.memory(1) >> 20);
        assert!(
            rough > 4 * 64 && (64..128).contains(&exact),
            "{rough} {exact}"
        );
        rustix::process::kill_process_group(
            rustix::process::Pid::from_raw(shell.id().try_into().unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        shell.wait().unwrap();
    }
}
