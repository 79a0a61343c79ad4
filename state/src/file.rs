//! Durable files: the only place that writes what must survive a crash, and the check that nobody else can.

use std::io;
use std::path::Path;

use crate::Refusal;

/// Replaces `path` by `bytes` so that a reader, and a crash at any moment, sees the old content or the new one.
///
/// A temporary file in the same directory is written, synced and renamed, and the directory is synced.
///
/// # Errors
/// The first operation that failed; `path` is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    todo!("{path:?} {bytes:?} {mode}")
}

/// Checks that `path` is a plain file or directory of this process's user (or of root), writable by nobody else.
///
/// # Errors
/// `STATE_MISSING` if there is nothing, `STATE_UNSAFE` otherwise.
pub fn check_safe(path: &Path) -> Result<(), Refusal> {
    todo!("{path:?}")
}
