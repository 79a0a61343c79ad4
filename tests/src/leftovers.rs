//! Ending what a test leaves running: services outlive their agent on purpose.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Ends all processes that name a folder in their arguments or variables when it is dropped.
#[derive(Debug)]
pub struct Leftovers(PathBuf);

impl Leftovers {
    /// The processes of `folder`, which nothing but one test knows.
    pub fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The ids of those that live.
    pub fn processes(&self) -> Vec<u32> {
        let needle = self.0.as_os_str().as_encoded_bytes();
        let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id())
            .filter(|pid| {
                let read =
                    |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                holds(&read("cmdline")) || holds(&read("environ"))
            })
            .collect()
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // Shims restart what dies, so ask again until nobody is left.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            let pids = left.into_iter().filter_map(|pid| i32::try_from(pid).ok());
            for pid in pids.filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
