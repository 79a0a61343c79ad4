//! An `ssh` of the tests' own: it reaches repositories on this machine, and waits at a gate that a test opens and
//! closes, so that a remote is slow for as long as a test needs it to be.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The gate; open at first.
#[derive(Debug)]
pub struct Gate {
    folder: PathBuf,
}

/// Writes down its process id, waits for the gate, and runs what it was asked to run.
const SSH: &str = r#"#!/bin/sh
here=${0%/*}
echo $$ >>"$here/pids"
while [ ! -e "$here/open" ]; do sleep 0.05; done
while [ "$1" != reader@example.invalid ]; do shift; done
shift
eval "$*"
"#;

impl Gate {
    /// Puts the program into `folder`, which is made.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).expect("the program's folder");
        let ssh = folder.join("ssh");
        std::fs::write(&ssh, SSH).expect("the program");
        std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).expect("its mode");
        let gate = Self { folder };
        gate.open();
        gate
    }

    /// Where the program is.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// The URL of the repository at `path`, through the gate.
    pub fn url(path: &Path) -> String {
        format!("ssh://reader@example.invalid{}", path.display())
    }

    /// Lets everything pass.
    ///
    /// # Panics
    /// When the folder is gone.
    pub fn open(&self) {
        std::fs::write(self.folder.join("open"), "").expect("the gate");
    }

    /// Lets nothing pass.
    ///
    /// # Panics
    /// When the gate is closed already.
    pub fn close(&self) {
        std::fs::remove_file(self.folder.join("open")).expect("an open gate");
    }

    /// The processes that came to the gate, the last one last.
    pub fn pids(&self) -> Vec<u32> {
        let pids = std::fs::read_to_string(self.folder.join("pids")).unwrap_or_default();
        pids.lines().filter_map(|pid| pid.parse().ok()).collect()
    }
}
