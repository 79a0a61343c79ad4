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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;
    use crate::testing::{NOW, at, environment, service};
    use proptest::prelude::*;

    fn count(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn a_burst_of_the_bound_passes_and_the_next_waits_for_its_share() {
        assert_eq!(conforms_at(&[], count(2), 60), Timestamp::MIN);
        assert!(conforms_at(&[NOW], count(2), 60) <= NOW);
        assert_eq!(conforms_at(&[NOW, NOW], count(2), 60), at(30));
        assert_eq!(conforms_at(&[NOW], count(1), 3600), at(3600));
    }

    #[test]
    fn what_a_wider_bound_admitted_delays_by_one_period_at_most() {
        assert!(conforms_at(&[NOW; 50], count(2), 60) <= at(60));
    }

    proptest! {
        /// Whoever comes at the first conforming time, again and again, is admitted at most twice the bound in any
        /// period: a full burst and what trickles in after it.
        #[test]
        fn no_period_holds_more_than_a_burst_and_a_refill(bound in 1u32..20, waits in prop::collection::vec(0i64..40, 1..200)) {
            let mut times: Vec<Timestamp> = Vec::new();
            for wait in waits {
                let earliest = conforms_at(&times, count(bound), 60).max(times.last().copied().unwrap_or(NOW));
                times.push(Timestamp::from_second(earliest.as_second() + wait).unwrap());
            }
            for (i, first) in times.iter().enumerate() {
                let within = times[i..].iter().filter(|time| time.as_second() < first.as_second() + 60).count();
                prop_assert!(within <= 2 * bound as usize, "{within} of {bound}");
            }
        }

        /// The time that is shown is exact: one second earlier does not conform.
        #[test]
        fn the_time_shown_is_the_first_that_conforms(bound in 1u32..20, ages in prop::collection::vec(0i64..120, 0..60)) {
            let mut times: Vec<_> = ages.into_iter().map(|age| at(-age)).collect();
            times.sort();
            let until = conforms_at(&times, count(bound), 60);
            let verdict = |now| bound_at(&times, bound, now);
            if until > Timestamp::MIN {
                prop_assert!(verdict(until).is_admit());
                prop_assert!(!verdict(Timestamp::from_second(until.as_second() - 1).unwrap()).is_admit());
            }
        }
    }

    proptest! {
        /// What a history forgets makes no difference to any bound at any time.
        #[test]
        fn the_memory_of_a_history_is_long_enough(gaps in prop::collection::vec(0i64..5_000, 1..60), per_hour in 1u32..20, per_minute in 1u32..20) {
            let times: Vec<_> = gaps.iter().scan(0, |time, gap| { *time += gap; Some(at(*time)) }).collect();
            let mut history = History::default();
            for time in &times {
                history.record(&environment("dev"), &service("web"), None, *time);
            }
            let remembered = history.admissions(&environment("dev"), &service("web"));
            for (bound, period) in [(per_hour, HOUR), (per_minute, MINUTE)] {
                let bound = count(bound);
                prop_assert_eq!(conforms_at(remembered, bound, period.seconds), conforms_at(&times, bound, period.seconds));
            }
        }
    }

    fn bound_at(times: &[Timestamp], per_minute: u32, now: Timestamp) -> Verdict {
        bound(
            times,
            Some(count(per_minute)),
            &MINUTE,
            "of this service",
            now,
        )
    }
}
