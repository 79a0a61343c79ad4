//! Waits that no change of the wall clock prolongs: each has a length beside its end, and never outlasts it. Within a
//! process tokio's clock measures it; what a file keeps is a [`Steady`] instant, or an end whose length is known.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

/// The least time between two looks at the same thing, however late the next one is.
const BREATH: Duration = Duration::from_millis(10);

/// What is left at `now` of a wait until `end` that was `length` long when it began; `None` once it is over. An end that
/// is further away was written by a clock that ran ahead, and counts for nothing.
pub fn left(end: Timestamp, length: SignedDuration, now: Timestamp) -> Option<SignedDuration> {
    let left = end.duration_since(now);
    (left.is_positive() && left <= length).then_some(left)
}

/// Waits until `at`, or for ever.
pub async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When to look again: when the first of `dues` comes, and after `longest` at the latest. Never at once, also if what was
/// due could not be done.
pub fn next_look(longest: Duration, dues: impl IntoIterator<Item = Instant>) -> Instant {
    let now = Instant::now();
    let soonest = dues.into_iter().fold(now + longest, Instant::min);
    soonest.max(now + BREATH)
}

/// An instant of one boot, by the clock that nobody sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Steady {
    /// The boot.
    boot: String,
    /// Milliseconds since it began, sleep included.
    milliseconds: u64,
}

impl Steady {
    /// The instant that comes after `length` in the boot that is under way.
    pub fn after(length: Duration, boot: &str) -> Self {
        let at = since_boot().saturating_add(length).as_millis();
        Self {
            boot: boot.to_owned(),
            milliseconds: at.try_into().unwrap_or(u64::MAX),
        }
    }

    /// The time until then, 0 if it has passed; `None` if it belongs to another boot.
    pub fn left(&self, boot: &str) -> Option<Duration> {
        let at = Duration::from_millis(self.milliseconds);
        (self.boot == boot).then(|| at.saturating_sub(since_boot()))
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::Boottime)
        .try_into()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_wait_that_a_wrong_clock_began_is_over_when_the_clock_is_right() {
        let length = SignedDuration::from_secs(30);
        let begun = 36_000;
        let end = at(begun + 30);
        assert_eq!(left(end, length, at(begun)), Some(length));
        assert_eq!(left(end, length, end), None);
        assert_eq!(left(end, length, at(0)), None, "the clock was put back");
    }

    #[test]
    fn what_is_overdue_is_looked_at_after_a_breath() {
        let now = Instant::now();
        let overdue = now.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(next_look(Duration::from_secs(1), [overdue]) >= now + BREATH);
        assert!(next_look(Duration::from_secs(1), []) >= now + Duration::from_secs(1));
    }

    #[test]
    fn a_steady_instant_belongs_to_its_boot() {
        let steady = Steady::after(Duration::from_secs(60), "a");
        let left = steady.left("a").unwrap();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60));
        assert_eq!(steady.left("b"), None);
        assert_eq!(
            Steady::after(Duration::ZERO, "a").left("a"),
            Some(Duration::ZERO)
        );
    }
}
