//! How long a service waits, after the agent's start, for a remote to answer.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// How long the remotes are waited for: one that answers does so in this time, and the old release serves meanwhile.
const LONGEST: Duration = Duration::from_secs(30);

/// How long a service waits for the first word.
#[derive(Debug)]
pub(super) enum Patience {
    /// At most until then.
    Until(Instant),
    /// No more.
    Ended,
}

impl Patience {
    pub(super) fn begin() -> Self {
        Self::Until(Instant::now() + LONGEST)
    }

    /// Says whether nobody answered in time.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Until(end) if Instant::now() >= *end)
    }
}

/// What a deployment says that waits until then.
pub(super) fn awaited(until: Timestamp) -> String {
    let until = until.strftime("%H:%M:%SZ");
    format!("the first word of a remote since the agent's start, at most until {until}")
}
