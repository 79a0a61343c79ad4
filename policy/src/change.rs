//! What a candidate would change: which services and rules of which environments, from what to what. Pure.
//!
//! Only ids are compared. Two releases with one id are one release, however their files are spelled and
//! whichever commit they come from.

use std::collections::{BTreeMap, BTreeSet};

use state::digest::ReleaseId;
use state::manifest::{Change, Subject};
use state::name::EnvironmentName;
use state::render::Rendered;

use crate::rule::duplicate;

/// A place for one release: everything that can change has exactly one.
pub type Place = (EnvironmentName, Subject);

/// The ids of all releases and rules of `rendered`, by place.
pub fn ids(rendered: &Rendered) -> BTreeMap<Place, ReleaseId> {
    let releases = rendered
        .releases
        .iter()
        .map(|((environment, service), release)| {
            let subject = Subject::Service(service.clone());
            ((environment.clone(), subject), release.id())
        });
    let rules = rendered
        .rules
        .iter()
        .map(|(environment, rules)| ((environment.clone(), Subject::Rules), rules.id()));
    releases.chain(rules).collect()
}

/// What would change if `wanted` took the place of `admitted`, in the order of manifests.
pub fn changes(admitted: &Rendered, wanted: &Rendered) -> Vec<Change> {
    let (old, new) = (ids(admitted), ids(wanted));
    let places: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    places
        .into_iter()
        .map(|place| (place, old.get(place).copied(), new.get(place).copied()))
        .filter(|(_, from, to)| !duplicate::is_duplicate(*from, *to))
        .map(|((environment, subject), from, to)| Change {
            environment: environment.clone(),
            subject: subject.clone(),
            from,
            to,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use serde_json::json;

    #[test]
    fn equal_ids_are_no_change_and_changes_sort_as_manifests_do() {
        let old = World::default()
            .rules("dev", &json!({}))
            .runs("dev", "web", 1)
            .runs("dev", "api", 1);
        assert_eq!(changes(&old.0, &old.0), []);
        let new = World::default()
            .rules("dev", &json!({ "cooldown": "1m" }))
            .runs("dev", "api", 1)
            .runs("dev", "web", 2)
            .runs("dev", "alone", 1);
        let found = changes(&old.0, &new.0);
        let subjects: Vec<_> = found.iter().map(|change| change.subject.as_str()).collect();
        assert_eq!(subjects, ["alone", "environment", "web"]);
        assert_eq!(found[0].from, None);
    }
}
