//! What a candidate would change: which services and rules of which environments, from what to what, and the questions
//! that rules ask of a change. Pure.
//!
//! Only ids are compared. Two releases with one id are one release, however their files are spelled and
//! whichever commit they come from.

use std::collections::{BTreeMap, BTreeSet};

use state::digest::ReleaseId;
use state::environment::Environment;
use state::manifest::{Change, Subject};
use state::name::EnvironmentName;
use state::release::Release;
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

/// The release of `rendered` at the place of `change`; `None` for rules.
pub fn release<'a>(rendered: &'a Rendered, change: &Change) -> Option<&'a Release> {
    match &change.subject {
        Subject::Rules => None,
        Subject::Service(service) => rendered
            .releases
            .get(&(change.environment.clone(), service.clone())),
    }
}

/// The source repository that `change` is built from: of what comes, or of what leaves; `None` for rules.
pub fn source<'a>(
    change: &Change,
    admitted: &'a Rendered,
    wanted: &'a Rendered,
) -> Option<&'a str> {
    let release = release(wanted, change).or_else(|| release(admitted, change))?;
    Some(&release.spec.source.repository)
}

/// Rules come before the services that they allow; an environment's rules leave after its services.
pub(crate) fn turn(change: &Change) -> u8 {
    match change.subject {
        Subject::Rules if leaves(change) => 2,
        Subject::Rules => 0,
        Subject::Service(_) => 1,
    }
}

/// Says whether `change` takes an environment's rules away.
pub(crate) fn leaves(change: &Change) -> bool {
    change.subject == Subject::Rules && change.to.is_none()
}

/// The rules that judge `environment`: those admitted; its own if it is new.
pub(crate) fn rules_in_force<'a>(
    environment: &EnvironmentName,
    admitted: &'a Rendered,
    wanted: &'a Rendered,
) -> Option<&'a Environment> {
    let rules = admitted.rules.get(environment);
    let rules = rules.or_else(|| wanted.rules.get(environment));
    rules.map(|rules| &rules.spec)
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
