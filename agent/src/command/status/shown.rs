//! What is shown.

use crate::status::Status;

/// A status and who told it.
pub(in crate::command) struct Shown {
    /// The status.
    pub(in crate::command) status: Status,
    /// Whether a running agent told it; else it is what the last one wrote.
    pub(in crate::command) live: bool,
}
