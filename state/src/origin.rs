//! Where a release comes from.

use serde::{Deserialize, Serialize};

use crate::digest::{ObjectId, PayloadHash};

/// The commit of `main` that a release was rendered from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Origin {
    /// Its git id: where to find it.
    pub commit: ObjectId,
    /// Its payload hash: what it is.
    pub payload: PayloadHash,
}
