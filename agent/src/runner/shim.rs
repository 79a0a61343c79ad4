//! The process `agent shim`: starts one slot's process, owns its log, starts it again, ends it.

use std::path::Path;
use std::process::ExitCode;

/// Runs the slot that the file `order` describes until it is stopped.
#[allow(clippy::todo, reason = "being written")]
pub fn run(order: &Path) -> ExitCode {
    todo!("{}", order.display())
}
