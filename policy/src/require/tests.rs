//! What a change waits for, and that whatever is admitted stays sound.

use super::*;
use crate::change::changes;
use crate::history::History;
use crate::judge::judge;
use crate::rule::Verdict;
use crate::testing::{NONE, NOW, World, at, environment, service, verdict_on};
use proptest::prelude::*;
use serde_json::json;
use state::Code;

fn world() -> World {
    World::default().rules("dev", &json!({ "cooldown": "10m" }))
}

/// The verdicts on `web` and on `api`, of which `api` changed a minute ago.
fn judged(old: &World, new: &World) -> [Verdict; 2] {
    let mut history = History::default();
    history.record(&environment("dev"), &service("api"), None, at(-60));
    let judged = judge(&old.0, &new.0, &NONE, &history, NOW);
    ["web", "api"].map(|name| verdict_on(&judged, "dev", name).clone())
}

#[track_caller]
fn assert_waits(verdict: &Verdict, text: &str) {
    let Verdict::Wait { until: None, why } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(why.code, Code::NeedsUnmet);
    assert!(why.detail.contains(text), "{why}");
}

#[test]
fn a_service_waits_for_what_it_needs() {
    let old = world().runs("dev", "api", 1).runs("dev", "web", 1);
    let new = world().runs("dev", "api", 2).runs("dev", "web", 2);
    let new = new.needs("dev", "web", "api");
    let [web, api] = judged(&old, &new);
    assert_waits(&web, "it needs 'api' as it is in the same commit");
    assert!(matches!(api, Verdict::Wait { until: Some(_), .. }));
    let same = world().runs("dev", "api", 1).runs("dev", "web", 2);
    let same = same.needs("dev", "web", "api");
    let judged = judge(&old.0, &same.0, &NONE, &History::default(), NOW);
    assert!(
        verdict_on(&judged, "dev", "web").is_admit(),
        "what it needs is admitted already"
    );
}

#[test]
fn services_that_need_each_other_go_together() {
    let old = world();
    let new = world().runs("dev", "api", 1).runs("dev", "web", 1);
    let new = new.needs("dev", "web", "api").needs("dev", "api", "web");
    let all = judge(&old.0, &new.0, &NONE, &History::default(), NOW);
    assert!(all.iter().all(|one| one.verdict.is_admit()));
    let [web, api] = judged(&old, &new);
    assert_waits(&web, "'api'");
    assert!(matches!(api, Verdict::Wait { until: Some(_), .. }));
}

#[test]
fn what_is_needed_does_not_leave_before_those_that_need_it() {
    let old = world().runs("dev", "api", 1).runs("dev", "web", 1);
    let old = old.needs("dev", "api", "web");
    let new = world()
        .runs("dev", "api", 1)
        .with("dev", "web", "web", 1, "absent");
    let [web, api] = judged(&old, &new);
    assert_waits(&web, "'api' needs it as it is admitted now");
    assert!(!api.is_admit());
}

#[test]
fn an_address_is_taken_once_the_other_gave_it_up() {
    let old = world().runs("dev", "api", 1).listens("dev", "api", 80);
    let new = world().runs("dev", "api", 1).listens("dev", "api", 81);
    let new = new.runs("dev", "web", 1).listens("dev", "web", 80);
    let [web, api] = judged(&old, &new);
    assert_waits(&web, "'api' has its listen address still");
    assert!(matches!(api, Verdict::Wait { until: Some(_), .. }));
    let all = judge(&old.0, &new.0, &NONE, &History::default(), NOW);
    assert!(all.iter().all(|one| one.verdict.is_admit()));
}

#[test]
fn one_manifest_holds_no_change_without_what_it_requires() {
    let old = world();
    let mut new = world();
    for name in ["a", "b", "c", "d", "e"] {
        new = new.runs("dev", name, 1);
    }
    new = new.needs("dev", "a", "e").needs("dev", "e", "d");
    let names = |most| {
        let all = changes(&old.0, &new.0);
        let taken = batch(all, &old.0, &new.0, most);
        let names = taken.iter().map(|one| one.subject.to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(1), "b");
    assert_eq!(names(2), "b c");
    assert_eq!(names(3), "a d e");
    let circle = new.needs("dev", "d", "a");
    let circle = circle.needs("dev", "b", "c").needs("dev", "c", "b");
    let taken = batch(changes(&old.0, &circle.0), &old.0, &circle.0, 1);
    assert_eq!(taken, []);
}

#[test]
fn an_environment_leaves_in_no_earlier_manifest_than_its_services() {
    let old = World::default().rules("old", &json!({}));
    let old = old.with("old", "web", "web", 1, "absent");
    let new = World::default().rules("new", &json!({}));
    let new = new.runs("new", "web", 1).runs("new", "zoo", 1);
    let all = changes(&old.0, &new.0);
    assert_eq!(all.len(), 5);
    let taken = batch(all, &old.0, &new.0, 4);
    assert!(taken.is_sorted_by(|a, b| a.place() < b.place()));
    let names: Vec<_> = taken.iter().map(Change::place).collect();
    let has = |of: &str, subject: &Subject| names.contains(&(&environment(of), subject));
    assert!(has("new", &Subject::Rules) && has("old", &service("web")));
    assert!(!has("old", &Subject::Rules));
}

/// Services of one environment, some absent, some on one address, some kept apart, some needing another.
fn worlds() -> impl Strategy<Value = World> {
    let service = (1u8..3, 80u16..83, any::<bool>(), 0u8..4, 0usize..8);
    let services = prop::collection::btree_map(0usize..4, service, 0..5);
    (any::<bool>(), services).prop_map(|(listed, services)| {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let hosts = if listed {
            json!([{ "name": "one", "labels": { "role": "x" } }, { "name": "two" }])
        } else {
            json!("any")
        };
        let rules = json!({ "hosts": hosts, "cooldown": "10m", "maxRemovals": 4 });
        let mut world = World::default().rules("dev", &rules);
        for (name, (version, port, placed, state, needed)) in services {
            let (name, needed) = (NAMES[name], NAMES.get(needed));
            let state = if state == 0 { "absent" } else { "running" };
            world = world.with("dev", name, name, version, state);
            world = world.listens("dev", name, port);
            if placed {
                let place = json!({ "labels": { "role": "x" } });
                let place = serde_json::from_value(place).unwrap();
                world = world.but("dev", name, |spec| spec.place = place);
            }
            if let Some(needed) = needed {
                world = world.needs("dev", name, needed);
            }
        }
        world
    })
}

/// As rendering would have it: no two services on one address, every need there.
fn is_sound(world: &Rendered) -> bool {
    let rules = &world.rules[&environment("dev")].spec;
    let mut releases = world.releases.values();
    releases.all(|one| {
        let others = world.releases.values();
        let mut others = others.filter(|other| other.service != one.service);
        let alone = !others.any(|other| collide(rules, one, other));
        let gone = |release: &Release| release.spec.state == DesiredState::Absent;
        let met = one.spec.needs.iter().all(|needed| {
            let place = (environment("dev"), needed.clone());
            let needed = world.releases.get(&place).filter(|other| !gone(other));
            needed.is_some_and(|other| other.service != one.service)
        });
        alone && (met || gone(one))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 200_000, ..ProptestConfig::default() })]

    /// Whatever waits, and wherever a manifest is full: what is admitted then is as sound as what was wanted.
    #[test]
    fn the_admitted_tree_stays_sound(
        old in worlds().prop_filter("sound", |world| is_sound(&world.0)),
        new in worlds().prop_filter("sound", |world| is_sound(&world.0)),
        rests in prop::collection::btree_set(0usize..5, 0..4),
        most in 1usize..6,
    ) {
        let mut history = History::default();
        for place in rests {
            let subject = match ["a", "b", "c", "d"].get(place) {
                Some(name) => service(name),
                None => Subject::Rules,
            };
            history.record(&environment("dev"), &subject, None, at(-60));
        }
        let judged = judge(&old.0, &new.0, &NONE, &history, NOW);
        let admit: Vec<_> = judged.into_iter().filter(|one| one.verdict.is_admit()).map(|one| one.change).collect();
        let mut after = old.0.clone();
        for change in batch(admit, &old.0, &new.0, most) {
            match &change.subject {
                Subject::Rules => {
                    let rules = new.0.rules[&change.environment].clone();
                    after.rules.insert(change.environment, rules);
                }
                Subject::Service(service) => {
                    let place = (change.environment.clone(), service.clone());
                    match new.0.releases.get(&place) {
                        Some(release) => after.releases.insert(place, release.clone()),
                        None => after.releases.remove(&place),
                    };
                }
            }
        }
        prop_assert!(is_sound(&after), "{after:#?}");
    }
}
