//! The agent's durable files: [`state::file`] with errors that a person can act upon.

use std::io;
use std::path::Path;

use state::{Code, Refusal, file};

/// Replaces `path` by `bytes`, durably; after a failure it is as it was.
///
/// # Errors
/// `DISK_FULL` if there is no space, else `STATE_UNSAFE`.
pub fn save(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Refusal> {
    file::write_atomic(path, bytes, mode).map_err(|error| failed(path, &error))
}

/// The refusal for an operation on `path` that failed.
pub fn failed(path: &Path, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::StateUnsafe,
    };
    Refusal::new(code, format!("'{}': {error}", path.display()))
}
