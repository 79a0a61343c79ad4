//! `limits` in agent.yaml: what this host does at most, whoever admitted it. A limit makes a deployment wait; it refuses
//! none, and it never delays going back or looking after what runs.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use state::unit::{Bytes, Period};
use state::{Code, Refusal};

/// The most that `per_hour` may be: so many times are kept in a service's record.
pub const MOST_PER_HOUR: usize = 600;

/// What this host does at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// The least time between the beginnings of two deployments of one service.
    pub cooldown: Period,
    /// How many deployments of one service may begin within an hour.
    pub per_hour: usize,
    /// Nothing is built while the file system has less than this left.
    pub disk_floor: Bytes,
    /// What the releases of one service may take together, beside how many it keeps. What its record names stays.
    pub release_bytes: Bytes,
    /// What the cache between the builds of one service may take; a larger one is begun anew.
    pub cache_bytes: Bytes,
}

impl Default for Limits {
    /// Nobody who builds, tests and bakes what he releases meets them.
    fn default() -> Self {
        Self {
            cooldown: Period::seconds(5),
            per_hour: 60,
            disk_floor: Bytes(256 << 20),
            release_bytes: Bytes(16 << 30),
            cache_bytes: Bytes(16 << 30),
        }
    }
}

/// How far back `per_hour` looks.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl Limits {
    /// Until when the next deployment of a service waits, and why, if deployments of it began at the times in `begun`,
    /// oldest first. What seems to lie in the future was written by a clock that was wrong, and counts for nothing.
    pub fn wait(&self, begun: &[Timestamp], now: Timestamp) -> Option<(Timestamp, Refusal)> {
        let mut latest_first = begun.iter().rev().filter(|time| **time <= now);
        let cooldown = SignedDuration::try_from(self.cooldown.duration()).ok()?;
        let last = *latest_first.clone().next()?;
        let rate = latest_first.nth(self.per_hour - 1).map(|first| {
            let detail = format!(
                "{} deployments began here within an hour (limits.perHour in agent.yaml)",
                self.per_hour
            );
            (*first + HOUR, Refusal::new(Code::RateLimited, detail))
        });
        let detail = format!(
            "the last deployment began here less than {} ago (limits.cooldown in agent.yaml)",
            self.cooldown
        );
        let cooldown = (last + cooldown, Refusal::new(Code::Cooldown, detail));
        [rate, Some(cooldown)]
            .into_iter()
            .flatten()
            .filter(|(until, _)| now < *until)
            .max_by_key(|(until, _)| *until)
    }

    /// Checks what the types alone do not.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let invalid = |detail: String| Err(Refusal::new(Code::AgentConfigInvalid, detail));
        if self.cooldown > Period::minutes(24 * 60) {
            let cooldown = self.cooldown;
            return invalid(format!(
                "limits.cooldown: '{cooldown}', expected at most 1d"
            ));
        }
        if !(1..=MOST_PER_HOUR).contains(&self.per_hour) {
            let per_hour = self.per_hour;
            return invalid(format!(
                "limits.perHour: {per_hour}, expected 1 to {MOST_PER_HOUR}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds after the epoch.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn wait(limits: &Limits, begun: &[i64], now: i64) -> Option<(i64, Code)> {
        let begun: Vec<_> = begun.iter().map(|seconds| at(*seconds)).collect();
        let (until, why) = limits.wait(&begun, at(now))?;
        Some((until.as_second(), why.code))
    }

    #[test]
    fn a_deployment_waits_for_the_cooldown_and_for_its_place_within_the_hour() {
        let limits = Limits {
            cooldown: Period::seconds(10),
            per_hour: 3,
            ..Limits::default()
        };
        assert_eq!(wait(&limits, &[], 0), None);
        assert_eq!(wait(&limits, &[0], 9), Some((10, Code::Cooldown)));
        assert_eq!(wait(&limits, &[0], 10), None);
        let three = [0, 100, 200];
        assert_eq!(wait(&limits, &three, 205), Some((3600, Code::RateLimited)));
        assert_eq!(wait(&limits, &three, 3599), Some((3600, Code::RateLimited)));
        assert_eq!(wait(&limits, &three, 3600), None);
    }

    #[test]
    fn a_clock_that_was_wrong_holds_nothing_up() {
        let limits = Limits::default();
        assert_eq!(wait(&limits, &[1_000_000], 100), None);
    }
}
