//! When what was admitted: the only memory that timing rules have. It is read from the log of admissions, so
//! every server, and anyone who replays, judges by the same history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use state::manifest::Subject;
use state::name::EnvironmentName;

use crate::change::Place;

/// The times of all admissions, by service and by source repository, each list in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        self.places
            .entry((environment.clone(), subject.clone()))
            .or_default()
            .push(time);
        if let Some(source) = source {
            self.sources
                .entry((environment.clone(), source.to_owned()))
                .or_default()
                .push(time);
        }
    }

    /// When `subject` changed in `environment`, earliest first.
    pub fn admissions(&self, environment: &EnvironmentName, subject: &Subject) -> &[Timestamp] {
        self.places
            .get(&(environment.clone(), subject.clone()))
            .map_or(&[], Vec::as_slice)
    }

    /// When anything built from the repository `source` changed in `environment`, earliest first.
    pub fn source_admissions(&self, environment: &EnvironmentName, source: &str) -> &[Timestamp] {
        self.sources
            .get(&(environment.clone(), source.to_owned()))
            .map_or(&[], Vec::as_slice)
    }
}
