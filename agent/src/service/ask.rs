//! What an operator of this host can decide about a service.

use serde::{Deserialize, Serialize};

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "ask")]
pub enum Ask {
    /// Deploy nothing until `Resume`.
    Hold {},
    /// End a hold or a rollback.
    Resume {},
    /// Try a release again that failed.
    Retry {},
    /// Bring an earlier release back.
    Rollback {
        /// The first digits of its id; the last good one before the one that runs if left out.
        to: Option<String>,
    },
}
