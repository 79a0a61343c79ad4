//! What must be admitted with a change or before it, so that the admitted tree that results makes sense: services that
//! it needs as they are in its commit, the change that gives up the address it takes, the rules of its environment. Pure.

use std::collections::{BTreeMap, BTreeSet};

use state::environment::Environment;
use state::manifest::{Change, Subject};
use state::name::EnvironmentName;
use state::release::Release;
use state::render::{Rendered, collide, listens};
use state::service::DesiredState;

use crate::change::{Place, leaves, release, turn};

/// A change that another one requires, by its number among the changes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// Which.
    pub change: usize,
    /// What it is for.
    pub why: String,
}

/// What each of `changes` requires of the others; the outer list has their order.
///
/// What is admitted already in the form that is wanted is no change, and required of nobody.
pub fn required(changes: &[Change], admitted: &Rendered, wanted: &Rendered) -> Vec<Vec<Required>> {
    let numbers = changes.iter().enumerate();
    let world = World {
        changes,
        numbers: numbers.map(|(at, change)| (place(change), at)).collect(),
        admitted: Side::of(admitted),
        wanted: Side::of(wanted),
    };
    let all = changes.iter().enumerate();
    all.map(|(at, change)| world.required(at, change)).collect()
}

/// As many of `changes` as fit into one manifest, none without what it requires.
///
/// Nothing is taken only if more changes than `most` require each other.
pub fn batch(
    mut changes: Vec<Change>,
    admitted: &Rendered,
    wanted: &Rendered,
    most: usize,
) -> Vec<Change> {
    if changes.len() <= most {
        return changes;
    }
    changes.sort_by_key(turn);
    let required = required(&changes, admitted, wanted);
    let mut taken = BTreeSet::new();
    for at in 0..changes.len() {
        let mut with = BTreeSet::new();
        let mut next = vec![at];
        while let Some(at) = next.pop() {
            if !taken.contains(&at) && with.insert(at) {
                next.extend(required[at].iter().map(|required| required.change));
            }
        }
        if taken.len() + with.len() <= most {
            taken.append(&mut with);
        }
    }
    let mut taken: Vec<_> = taken.into_iter().map(|at| changes[at].clone()).collect();
    taken.sort_by(|a, b| a.place().cmp(&b.place()));
    taken
}

fn place(change: &Change) -> Place {
    (change.environment.clone(), change.subject.clone())
}

/// What is admitted, or what is wanted, with its listen addresses by port.
struct Side<'a> {
    rendered: &'a Rendered,
    ports: BTreeMap<(&'a EnvironmentName, u16), Vec<&'a Release>>,
}

impl<'a> Side<'a> {
    fn of(rendered: &'a Rendered) -> Self {
        let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for release in rendered.releases.values() {
            if let Some(listen) = listens(release) {
                let key = (&release.environment, listen.port());
                ports.entry(key).or_default().push(release);
            }
        }
        Self { rendered, ports }
    }

    fn rules(&self, environment: &EnvironmentName) -> Option<&'a Environment> {
        let rules = self.rendered.rules.get(environment)?;
        Some(&rules.spec)
    }

    /// The other services of this side that would collide with `release` under `rules`.
    fn colliding<'b>(
        &'b self,
        release: &'b Release,
        rules: &'b Environment,
    ) -> impl Iterator<Item = &'a Release> + 'b {
        let port = listens(release).map_or(0, |listen| listen.port());
        let same = self.ports.get(&(&release.environment, port));
        let others = same.into_iter().flatten().copied();
        others
            .filter(move |other| other.service != release.service && collide(rules, release, other))
    }
}

struct World<'a> {
    changes: &'a [Change],
    numbers: BTreeMap<Place, usize>,
    admitted: Side<'a>,
    wanted: Side<'a>,
}

impl World<'_> {
    fn number(&self, environment: &EnvironmentName, subject: &Subject) -> Option<usize> {
        let place = (environment.clone(), subject.clone());
        self.numbers.get(&place).copied()
    }

    fn required(&self, at: usize, change: &Change) -> Vec<Required> {
        let mut required = Vec::new();
        let mut require = |change: Option<usize>, why: String| {
            if let Some(change) = change.filter(|change| *change != at) {
                required.push(Required { change, why });
            }
        };
        match change.subject {
            Subject::Rules => self.required_by_rules(change, &mut require),
            Subject::Service(_) => self.required_by_service(change, &mut require),
        }
        required
    }

    fn required_by_rules(&self, change: &Change, require: &mut impl FnMut(Option<usize>, String)) {
        let environment = &change.environment;
        if leaves(change) {
            let all = self.changes.iter().enumerate();
            for (at, service) in all.filter(|(_, other)| other.environment == *environment) {
                let why = format!("the environment still has '{}'", service.subject);
                require(Some(at), why);
            }
        }
        // New rules over services that still wait: two of them may not be kept apart any more.
        let Some(rules) = self.wanted.rules(environment) else {
            return;
        };
        let releases = self.admitted.rendered.releases.values();
        for one in releases.filter(|release| release.environment == *environment) {
            for other in self.admitted.colliding(one, rules) {
                let why = format!(
                    "by these rules '{}' and '{}' would listen on one address",
                    one.service, other.service
                );
                let subject = Subject::Service(one.service.clone());
                require(self.number(environment, &subject), why);
            }
        }
    }

    fn required_by_service(
        &self,
        change: &Change,
        require: &mut impl FnMut(Option<usize>, String),
    ) {
        let environment = &change.environment;
        let service = |release: &Release| Subject::Service(release.service.clone());
        let (old, new) = (
            self.admitted.rules(environment),
            self.wanted.rules(environment),
        );
        let wanted = release(self.wanted.rendered, change);
        let rules_change = self.number(environment, &Subject::Rules);
        if let (None, Some(new), Some(_)) = (old, rules_change, wanted) {
            require(Some(new), "the environment is new".to_owned());
        }
        if wanted.is_none_or(|release| release.spec.state == DesiredState::Absent) {
            // What leaves may be needed by what is admitted.
            let releases = self.admitted.rendered.releases.values();
            let here = releases.filter(|release| release.environment == *environment);
            for other in here {
                let mut needed = other.spec.needs.iter();
                if needed.any(|name| name.as_str() == change.subject.as_str()) {
                    let why = format!("'{}' needs it as it is admitted now", other.service);
                    require(self.number(environment, &service(other)), why);
                }
            }
        }
        let Some(wanted) = wanted else { return };
        for needed in &wanted.spec.needs {
            let subject = Subject::Service(needed.clone());
            let why = format!("it needs '{needed}' as it is in the same commit");
            require(self.number(environment, &subject), why);
        }
        for rules in old.into_iter().chain(new) {
            for other in self.admitted.colliding(wanted, rules) {
                let why = format!("'{}' has its listen address still", other.service);
                require(self.number(environment, &service(other)), why);
            }
        }
        // Old rules over what is wanted: the new ones may keep apart what the old ones do not.
        if let (Some(old), Some(_)) = (old, rules_change)
            && let Some(other) = self.wanted.colliding(wanted, old).next()
        {
            let why = format!(
                "only the new rules keep it and '{}' on hosts apart",
                other.service
            );
            require(rules_change, why);
        }
    }
}

#[cfg(test)]
mod tests;
