//! Where a deployment stands, and what its stages come to. Which follows which is in [`crate::deployment::pipeline`].

use std::fmt;

use serde::{Deserialize, Serialize};
use state::durable::Unknown;

/// Where a deployment stands. The record holds it before the phase's effect begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The pinned source commit is fetched.
    Pending,
    /// The build's steps run.
    Building,
    /// The tests' steps run.
    Testing,
    /// The release moves into its place.
    Staged,
    /// The idle slot is started.
    Starting,
    /// Startup, identity and readiness are checked.
    Ready,
    /// Requests move to the candidate.
    Shifting,
    /// The roles of the slots are flipped.
    Promoted,
    /// The new stable slot is watched; the old one is kept for going back.
    Baking,
    /// The release is remembered as good.
    Committed,
    /// The old slot ends its requests and stops.
    Draining,
    /// Done: the old slot is free.
    Retired,
    /// Requests go back to the stable slot, then the candidate stops.
    Aborting,
    /// Ended: the old release runs again.
    RolledBack,
    /// Ended: the new release does not run, and nothing had to be brought back or could be.
    Failed,
    /// One of a newer version: whatever it is, this one leaves it alone.
    #[serde(untagged)]
    Unknown(Unknown),
}

impl Phase {
    /// Every phase that is known, in order.
    pub const ALL: [Self; 15] = [
        Self::Pending,
        Self::Building,
        Self::Testing,
        Self::Staged,
        Self::Starting,
        Self::Ready,
        Self::Shifting,
        Self::Promoted,
        Self::Baking,
        Self::Committed,
        Self::Draining,
        Self::Retired,
        Self::Aborting,
        Self::RolledBack,
        Self::Failed,
    ];

    /// The phase's name as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Building => "building",
            Self::Testing => "testing",
            Self::Staged => "staged",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Shifting => "shifting",
            Self::Promoted => "promoted",
            Self::Baking => "baking",
            Self::Committed => "committed",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Aborting => "aborting",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
            Self::Unknown(phase) => phase.as_str(),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the effect of a phase came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The source commit is here and on its branch.
    Fetched,
    /// The release is kept on this host: nothing to fetch, build or test.
    Kept,
    /// All build steps succeeded and the outputs were taken.
    Built,
    /// All tests succeeded.
    Tested,
    /// The release is in its place.
    Stored,
    /// The slot's process runs.
    Started,
    /// The slot is ready, and there are requests to move to it.
    Answered,
    /// The slot is ready, and it has the place of the old one already (recreate, or no traffic).
    AnsweredAlone,
    /// The proxy confirmed the new weights.
    Shifted,
    /// The proxy confirmed the new roles.
    Flipped,
    /// The slot stayed well for the whole bake.
    Baked,
    /// `lastGood` is written.
    Remembered,
    /// The old slot is stopped, or there was none.
    Drained,
    /// The phase failed, the deployment was superseded or held, or a reboot ended its processes.
    Broken,
    /// The stable slot has all requests, and the candidate is stopped.
    Restored,
    /// The candidate is stopped, and there is no stable slot.
    Emptied,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 16] = [
        Self::Fetched,
        Self::Kept,
        Self::Built,
        Self::Tested,
        Self::Stored,
        Self::Started,
        Self::Answered,
        Self::AnsweredAlone,
        Self::Shifted,
        Self::Flipped,
        Self::Baked,
        Self::Remembered,
        Self::Drained,
        Self::Broken,
        Self::Restored,
        Self::Emptied,
    ];
}
