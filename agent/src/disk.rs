//! The agent's durable files: [`state::file`] with errors that a person can act upon.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use state::unit::Bytes;
use state::{Code, Refusal, file};
use tokio::time::sleep;

/// Replaces `path` by `bytes`, durably; after a failure it is as it was.
///
/// # Errors
/// `DISK_FULL` if there is no space, else `STATE_UNSAFE`.
pub fn save(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Refusal> {
    file::write_atomic(path, bytes, mode).map_err(|error| failed(path, &error))
}

/// Fails if the file system of `folder` has less space left than `floor`, or none at all.
///
/// # Errors
/// `DISK_FULL`.
pub fn room(folder: &Path, floor: Bytes) -> Result<(), Refusal> {
    // A file system that does not tell is taken to have room: writing to it will tell.
    let left = statvfs(folder).map_or(u64::MAX, |status| {
        status.f_bavail.saturating_mul(status.f_frsize)
    });
    if left < floor.0.max(1) {
        let detail = format!("{} MiB left, the floor is {floor}", left >> 20);
        return Err(Refusal::new(Code::DiskFull, detail));
    }
    Ok(())
}

/// How often the space that is left is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Ends when there is no room any more: what runs on the host must not suffer from what a build writes.
pub(crate) async fn full(folder: &Path, floor: Bytes) -> Refusal {
    loop {
        sleep(LOOK).await;
        if let Err(full) = room(folder, floor) {
            return full;
        }
    }
}

/// The refusal for an operation on `path` that failed.
pub fn failed(path: &Path, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::StateUnsafe,
    };
    Refusal::new(code, format!("'{}': {error}", path.display()))
}
