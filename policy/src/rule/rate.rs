//! Rate: how often a service, and all services of one source repository, may change in an environment.
//!
//! The bound is the generic cell rate algorithm (GCRA, ITU-T I.371) over the times of the admitted log: `n` changes
//! may come at once, then one every period/n. A change beyond it is not lost and not refused: it waits (code
//! `RATE_LIMITED`) until the time shown and is judged again from the then newest `main`, so a burst of bumps ends
//! as one deployment of the last of them.

use std::num::NonZeroU32;

use jiff::Timestamp;
use state::Code;

use super::{Case, Verdict};

const MINUTE: Period = Period {
    seconds: 60,
    name: "minute",
};
const HOUR: Period = Period {
    seconds: 3600,
    name: "hour",
};

struct Period {
    seconds: i64,
    name: &'static str,
}

/// Judges the change by how often its service and its source repository changed before.
pub fn judge(case: &Case<'_>) -> Verdict {
    let rate = &case.rules.rate;
    let change = case.change;
    let own = case
        .history
        .admissions(&change.environment, &change.subject);
    let verdict = bound(own, rate.per_minute, &MINUTE, "of this service", case.now).and(bound(
        own,
        rate.per_hour,
        &HOUR,
        "of this service",
        case.now,
    ));
    let Some(source) = case.source() else {
        return verdict;
    };
    let shared = &rate.source;
    let all = case.history.source_admissions(&change.environment, source);
    let of = format!("from {source}");
    verdict
        .and(bound(all, shared.per_minute, &MINUTE, &of, case.now))
        .and(bound(all, shared.per_hour, &HOUR, &of, case.now))
}

/// Judges one more event after those of `times` by a bound of `count` a `period`.
fn bound(
    times: &[Timestamp],
    count: Option<NonZeroU32>,
    period: &Period,
    of: &str,
    now: Timestamp,
) -> Verdict {
    let Some(count) = count else {
        return Verdict::Admit;
    };
    let until = conforms_at(times, count, period.seconds);
    if until <= now {
        return Verdict::Admit;
    }
    let changes = if count.get() == 1 {
        "change"
    } else {
        "changes"
    };
    let why = format!("at most {count} {changes} {of} a {}", period.name);
    Verdict::wait(until, Code::RateLimited, why)
}

/// The first whole second at which one more event conforms.
///
/// The theoretical arrival time never runs further ahead of an event than one period: what was admitted under a
/// wider bound delays by the present one only.
fn conforms_at(times: &[Timestamp], count: NonZeroU32, period: i64) -> Timestamp {
    let period = period * 1000;
    let interval = period / i64::from(count.get());
    let mut arrival = i64::MIN;
    for time in times {
        let time = time.as_millisecond();
        arrival = (arrival.max(time) + interval).min(time + period);
    }
    if arrival == i64::MIN {
        return Timestamp::MIN;
    }
    let earliest = arrival + interval - period;
    let second = earliest.div_euclid(1000) + i64::from(earliest.rem_euclid(1000) > 0);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}
