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
