//! When what was admitted: the only memory that timing rules have. It is read from the log of admissions, so
//! every server, and anyone who replays, judges by the same history.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use state::manifest::Subject;
use state::name::EnvironmentName;

use crate::change::Place;

/// No rule looks across a longer time without any admission, but for the admission before it.
pub const MEMORY: SignedDuration = SignedDuration::from_hours(1);

/// The times of admissions, by service and by source repository, each list in the order of time, as far as rules look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Lists", into = "Lists")]
pub struct History {
    places: BTreeMap<Place, Vec<Timestamp>>,
    sources: BTreeMap<(EnvironmentName, String), Vec<Timestamp>>,
}

impl History {
    /// Notes that `subject` changed at `time`, built from the repository `source` if it is a service that has one.
    /// Admissions are noted in the order of time, as the log holds them.
    pub fn record(
        &mut self,
        environment: &EnvironmentName,
        subject: &Subject,
        source: Option<&str>,
        time: Timestamp,
    ) {
        let place = (environment.clone(), subject.clone());
        note(self.places.entry(place).or_default(), time);
        if let Some(source) = source {
            let source = (environment.clone(), source.to_owned());
            note(self.sources.entry(source).or_default(), time);
        }
    }

    /// When `subject` changed in `environment` lately, earliest first; the last change is always there.
    pub fn admissions(&self, environment: &EnvironmentName, subject: &Subject) -> &[Timestamp] {
        self.places
            .get(&(environment.clone(), subject.clone()))
            .map_or(&[], Vec::as_slice)
    }

    /// When anything built from the repository `source` changed in `environment` lately, earliest first.
    pub fn source_admissions(&self, environment: &EnvironmentName, source: &str) -> &[Timestamp] {
        self.sources
            .get(&(environment.clone(), source.to_owned()))
            .map_or(&[], Vec::as_slice)
    }
}

/// Adds `time` to `times`; what lies before a longer time without any is forgotten.
fn note(times: &mut Vec<Timestamp>, time: Timestamp) {
    let is_new = |last: &Timestamp| time.duration_since(*last) >= MEMORY;
    if times.last().is_some_and(is_new) {
        times.clear();
    }
    times.push(time);
}

/// The history as it is written down: JSON has no maps with such keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    places: Vec<(EnvironmentName, String, Vec<i64>)>,
    sources: Vec<(EnvironmentName, String, Vec<i64>)>,
}

impl From<History> for Lists {
    fn from(history: History) -> Self {
        let seconds = |times: Vec<Timestamp>| times.iter().map(|time| time.as_second()).collect();
        let places = history.places.into_iter();
        let sources = history.sources.into_iter();
        Self {
            places: places
                .map(|((environment, subject), times)| {
                    (environment, subject.to_string(), seconds(times))
                })
                .collect(),
            sources: sources
                .map(|((environment, source), times)| (environment, source, seconds(times)))
                .collect(),
        }
    }
}

impl TryFrom<Lists> for History {
    type Error = String;

    fn try_from(lists: Lists) -> Result<Self, String> {
        let mut history = Self::default();
        for (environment, subject, times) in lists.places {
            let subject = subject.parse().map_err(|error| format!("{error}"))?;
            let place = (environment, subject);
            history.places.insert(place, timestamps(&times)?);
        }
        for (environment, source, times) in lists.sources {
            let times = timestamps(&times)?;
            history.sources.insert((environment, source), times);
        }
        Ok(history)
    }
}

fn timestamps(seconds: &[i64]) -> Result<Vec<Timestamp>, String> {
    let times = seconds.iter().map(|&second| Timestamp::from_second(second));
    let times: Result<Vec<_>, _> = times.collect();
    times.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, environment, service};
    use proptest::prelude::*;

    /// The times of one place and of one source, as they are remembered.
    fn remembered(times: &[i64]) -> History {
        let mut history = History::default();
        for time in times {
            let source = Some("https://git.example.org/web.git");
            history.record(&environment("dev"), &service("web"), source, at(*time));
            history.record(&environment("dev"), &Subject::Rules, None, at(*time));
        }
        history
    }

    #[test]
    fn what_lies_before_an_hour_without_admissions_is_forgotten() {
        let history = remembered(&[0, 10, 3_609, 7_209, 7_210]);
        let web = history.admissions(&environment("dev"), &service("web"));
        assert_eq!(web, [at(7_209), at(7_210)]);
    }

    proptest! {
        #[test]
        fn a_history_is_read_back_as_it_was(times in prop::collection::vec(0i64..20_000, 0..40)) {
            let mut times = times;
            times.sort_unstable();
            let history = remembered(&times);
            let json = serde_json::to_vec(&history).unwrap();
            prop_assert_eq!(serde_json::from_slice::<History>(&json).unwrap(), history);
        }
    }
}
