//! Lock files: only accounts that the mode names can open one, every wait has an end, and whoever waited in vain is
//! told which process holds it.
//!
//! A read-only descriptor is enough for `flock`, so a lock file that others may read is one that others may hold.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, major, minor};

/// How often the lock is tried while another process holds it.
const INTERVAL: Duration = Duration::from_millis(20);

/// A held lock; the system releases it when the value is dropped, and when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be opened, or is none that a lock may be.
    #[error("{0}")]
    Unusable(#[from] io::Error),
    /// Another process held it to the end of the wait.
    #[error("{0} holds the lock")]
    Held(Holder),
}

/// Which process holds a lock, as far as the system tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(Option<Process>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    /// Its command and its account; `None` if it cannot be looked at, or has ended and left the lock to a child.
    about: Option<(String, u32)>,
}

impl Lock {
    /// Takes the lock at `path` within the time `within`. A missing file is made with `mode`, and one that belongs to
    /// this process's account and grants more is cut down to it. Blocks.
    ///
    /// # Errors
    /// [`LockError::Unusable`] also for what is not a plain file with one name: a link or a pipe was put there.
    pub fn take(path: &Path, mode: u32, within: Duration) -> Result<Self, LockError> {
        let file = open(path, mode)?;
        let deadline = Instant::now() + within;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(INTERVAL);
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(Holder::of(&file))),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
    }
}

/// The process that took the lock at `path`, as far as the system tells; `None` if nobody holds it.
pub fn held_by(path: &Path) -> Option<u32> {
    let Holder(process) = Holder::of(&File::open(path).ok()?);
    process.map(|process| process.pid)
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    // Not waiting: without a writer the open of a pipe would never end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(mode)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let status = file.metadata()?;
    if !status.is_file() || status.nlink() != 1 {
        return Err(io::Error::other("is not a plain file with one name"));
    }
    let is_own = status.uid() == rustix::process::geteuid().as_raw();
    if is_own && status.mode() & 0o777 & !mode != 0 {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

impl Holder {
    /// Looks for the process in the system's list of locks.
    fn of(file: &File) -> Self {
        let find = || {
            let status = file.metadata().ok()?;
            let locks = fs::read_to_string("/proc/locks").ok()?;
            let (major, minor) = (major(status.dev()), minor(status.dev()));
            let file = format!("{major:02x}:{minor:02x}:{}", status.ino());
            let pid = locks.lines().find_map(|line| holder(line, &file))?;
            Some(Process {
                pid,
                about: about(pid),
            })
        };
        Self(find())
    }
}

/// The process of a line such as `1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF`; with `->` one that waits.
fn holder(line: &str, file: &str) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    if words.next() != Some("FLOCK") {
        return None;
    }
    let (pid, found) = (words.nth(2)?, words.next()?);
    (found == file).then(|| pid.parse().ok()).flatten()
}

fn about(pid: u32) -> Option<(String, u32)> {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let user = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    Some((command.trim_end().to_owned(), user))
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Process { pid, about }) => match about {
                Some((command, user)) => write!(f, "process {pid} ('{command}', user {user})"),
                None => write!(f, "process {pid}, or a child that it left"),
            },
            None => f.write_str("a process that this account cannot see"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        (folder, path)
    }

    #[test]
    fn a_lock_is_waited_for_until_the_deadline_and_no_longer() {
        let (_folder, path) = folder();
        let first = Lock::take(&path, 0o600, Duration::ZERO).unwrap();
        assert!(Lock::take(&path, 0o600, INTERVAL).is_err());
        let within = Duration::from_secs(10);
        let waiting = path.clone();
        let second = thread::spawn(move || Lock::take(&waiting, 0o600, within));
        drop(first);
        assert!(second.join().unwrap().is_ok());
    }

    #[test]
    fn the_process_that_holds_a_lock_is_named() {
        let (_folder, path) = folder();
        drop(Lock::take(&path, 0o600, Duration::ZERO).unwrap());
        let mut held = Command::new("flock")
            .args(["--no-fork".as_ref(), path.as_os_str()])
            .args(["sh", "-c", "echo held; read word"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        io::Read::read_exact(held.stdout.as_mut().unwrap(), &mut said).unwrap();
        let error = Lock::take(&path, 0o600, Duration::ZERO).unwrap_err();
        held.kill().unwrap();
        held.wait().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let expected = format!("process {} ('sh', user {user}) holds the lock", held.id());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_lock_file_of_an_earlier_version_is_closed_to_others() {
        let (_folder, path) = folder();
        fs::write(&path, "").unwrap();
        for (before, mode, after) in [(0o644, 0o600, 0o600), (0o600, 0o660, 0o600)] {
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            drop(Lock::take(&path, mode, Duration::ZERO).unwrap());
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, after);
        }
    }

    #[test]
    fn what_somebody_put_in_the_place_of_a_lock_is_refused_and_not_touched() {
        let (folder, path) = folder();
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o644)).unwrap();
        let refused = || {
            let taken = Lock::take(&path, 0o600, Duration::ZERO);
            assert!(matches!(taken, Err(LockError::Unusable(_))), "{taken:?}");
            fs::remove_file(&path).unwrap();
        };
        symlink(&other, &path).unwrap();
        refused();
        fs::hard_link(&other, &path).unwrap();
        refused();
        Command::new("mkfifo").arg(&path).status().unwrap();
        refused();
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o644);
    }
}
