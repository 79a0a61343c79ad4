//! Judges a candidate: every rule over every change, each change on its own. Pure.
//!
//! A change is judged by the rules that were admitted before it; only an environment that is new is judged by its
//! own. One service that waits delays no other: changes meet only in what they share, the rate of their source
//! repository and the number of removals at once, and where one requires another ([`crate::require`]): what requires a
//! change that is not admitted waits for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use state::Code;
use state::manifest::{Change, Subject};
use state::name::EnvironmentName;
use state::render::Rendered;

use crate::change::{changes, leaves, rules_in_force, source, turn};
use crate::evidence::Evidence;
use crate::history::History;
use crate::require::required;
use crate::rule::{Case, Verdict, approval, cooldown, hold, rate, removal};

/// The rules of admission, in the order in which their verdicts are named.
const RULES: &[fn(&Case<'_>) -> Verdict] = &[
    removal::judge,
    hold::judge,
    approval::judge_trailer,
    approval::judge,
    rate::judge,
    cooldown::judge,
];

/// A change and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The change.
    pub change: Change,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// Judges everything that differs between `admitted` and `wanted` at the time `now`.
///
/// Returns one verdict a change, sorted by environment and subject. The same arguments give the same verdicts.
pub fn judge(
    admitted: &Rendered,
    wanted: &Rendered,
    evidence: &Evidence,
    history: &History,
    now: Timestamp,
) -> Vec<Judged> {
    let changes = changes(admitted, wanted);
    let required = required(&changes, admitted, wanted);
    let question = Question {
        changes: &changes,
        admitted,
        wanted,
        evidence,
        now,
    };
    // The greatest set of which none lacks what it requires: services that need each other go together. What is taken
    // out leaves its share of a rate to others, so all are judged again.
    let mut barred = vec![Verdict::Admit; changes.len()];
    loop {
        let judged = question.judge_each(&barred, history.clone());
        let mut all = true;
        for (at, one) in judged.iter().enumerate() {
            let lacks = |other: usize| !judged[other].verdict.is_admit();
            let mut lacking = required[at].iter().filter(|other| lacks(other.change));
            if one.verdict.is_admit()
                && let Some(lacking) = lacking.next()
            {
                let subject = &changes[lacking.change].subject;
                let why = format!("waits for '{subject}': {}", lacking.why);
                barred[at] = Verdict::wait_for(Code::NeedsUnmet, why);
                all = false;
            }
        }
        if all {
            return judged;
        }
    }
}

/// What is judged, and by what; only what is remembered of earlier changes differs from change to change.
struct Question<'a> {
    changes: &'a [Change],
    admitted: &'a Rendered,
    wanted: &'a Rendered,
    evidence: &'a Evidence,
    now: Timestamp,
}

impl Question<'_> {
    /// Judges each change by the rules, in their order; `barred` has for each what else is known against it.
    fn judge_each(&self, barred: &[Verdict], mut history: History) -> Vec<Judged> {
        let Self {
            changes,
            admitted,
            wanted,
            evidence,
            now,
        } = *self;
        let mut order: Vec<_> = changes.iter().zip(barred).collect();
        order.sort_by_key(|(change, _)| turn(change));
        // What others of its environment must wait for: a new environment's rules, or the services of one that leaves.
        let mut bounds: BTreeMap<&EnvironmentName, Verdict> = BTreeMap::new();
        let mut judged: Vec<Judged> = Vec::with_capacity(changes.len());
        for (change, barred) in order {
            let environment = &change.environment;
            let (is_new, is_leaving) = (
                !admitted.rules.contains_key(environment),
                !wanted.rules.contains_key(environment),
            );
            let bound = match bounds.get(environment) {
                Some(bound) if is_new || leaves(change) => bound.clone(),
                _ => Verdict::Admit,
            };
            let bound = bound.and(barred.clone());
            let verdict = match rules_in_force(environment, admitted, wanted) {
                Some(rules) => {
                    let case = Case {
                        change,
                        changes,
                        rules,
                        admitted,
                        wanted,
                        evidence,
                        history: &history,
                        now,
                    };
                    RULES
                        .iter()
                        .fold(bound, |verdict, rule| verdict.and(rule(&case)))
                }
                None => Verdict::refuse(
                    Code::ConfigInvalid,
                    "the environment has no environment.yaml",
                ),
            };
            if verdict.is_admit() {
                let source = source(change, admitted, wanted);
                history.record(environment, &change.subject, source, now);
            } else if is_leaving || (is_new && change.subject == Subject::Rules) {
                let strictest = bounds.entry(environment).or_insert(Verdict::Admit);
                *strictest = strictest.clone().and(verdict.clone());
            }
            judged.push(Judged {
                change: change.clone(),
                verdict,
            });
        }
        judged.sort_by(|a, b| a.change.place().cmp(&b.change.place()));
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NONE, NOW, World, at, environment, service, verdict_on};
    use proptest::prelude::*;
    use serde_json::json;

    fn history(entries: &[(&str, &str, i64)]) -> History {
        let mut history = History::default();
        for (name, source, time) in entries {
            let source = format!("https://git.example.org/{source}.git");
            history.record(
                &environment("dev"),
                &service(name),
                Some(&source),
                at(*time),
            );
        }
        history
    }

    #[test]
    fn one_service_that_waits_delays_no_other() {
        let world = World::default().rules("dev", &json!({ "cooldown": "10m" }));
        let old = world.clone().runs("dev", "api", 1).runs("dev", "web", 1);
        let new = world.runs("dev", "api", 2).runs("dev", "web", 2);
        let judged = judge(&old.0, &new.0, &NONE, &history(&[("api", "api", -5)]), NOW);
        assert!(
            matches!(verdict_on(&judged, "dev", "api"), Verdict::Wait { until, .. } if *until == Some(at(595)))
        );
        assert!(verdict_on(&judged, "dev", "web").is_admit());
    }

    #[test]
    fn changes_are_judged_by_the_rules_admitted_before() {
        let strict = World::default().rules("dev", &json!({ "cooldown": "10m" }));
        let loose = World::default().rules("dev", &json!({}));
        let history = history(&[("web", "web", -5)]);
        let (old, new) = (strict.runs("dev", "web", 1), loose.runs("dev", "web", 2));
        let judged = judge(&old.0, &new.0, &NONE, &history, NOW);
        assert!(verdict_on(&judged, "dev", "environment").is_admit());
        assert!(!verdict_on(&judged, "dev", "web").is_admit());
        let judged = judge(&new.0, &old.0, &NONE, &history, NOW);
        assert!(
            verdict_on(&judged, "dev", "web").is_admit(),
            "stricter rules hold from the next change on"
        );
    }

    #[test]
    fn services_of_one_source_share_its_rate_in_one_pass_and_across_passes() {
        for bound in ["perHour", "perMinute"] {
            let rules = json!({ "rate": { "source": { bound: 2 } } });
            let old = World::default().rules("dev", &rules);
            let new = ["a", "b", "c"].iter().fold(old.clone(), |world, name| {
                world.with("dev", name, "shared", 1, "running")
            });
            let judged = judge(&old.0, &new.0, &NONE, &History::default(), NOW);
            let admitted: Vec<_> = judged.iter().map(|one| one.verdict.is_admit()).collect();
            assert_eq!(admitted, [true, true, false]);
            let judged = judge(
                &old.0,
                &new.0,
                &NONE,
                &history(&[("z", "shared", -1), ("z", "shared", -1)]),
                NOW,
            );
            assert!(judged.iter().all(|one| !one.verdict.is_admit()));
        }
    }

    #[test]
    fn a_new_environments_services_wait_for_its_rules() {
        let new = World::default()
            .rules("dev", &json!({ "cooldown": "10m" }))
            .runs("dev", "web", 1);
        let nothing = World::default();
        assert!(
            judge(&nothing.0, &new.0, &NONE, &History::default(), NOW)
                .iter()
                .all(|one| one.verdict.is_admit())
        );
        let mut history = History::default();
        history.record(&environment("dev"), &Subject::Rules, None, at(-60));
        let judged = judge(&nothing.0, &new.0, &NONE, &history, NOW);
        assert!(judged.iter().all(
            |one| matches!(one.verdict, Verdict::Wait { until, .. } if until == Some(at(540)))
        ));
    }

    /// Some services at some versions, some sharing a source, in up to two environments with some rules.
    fn worlds() -> impl Strategy<Value = World> {
        let rules = (0u32..4, 0u32..4, 0u64..900, any::<bool>()).prop_map(|(minute, source, cooldown, queue)| {
            let mut rules = json!({ "cooldown": format!("{cooldown}s"), "onCooldown": if queue { "queue" } else { "refuse" }, "rate": {} });
            if minute > 0 {
                rules["rate"]["perMinute"] = minute.into();
            }
            if source > 0 {
                rules["rate"]["source"] = json!({ "perHour": source });
            }
            rules
        });
        let services = prop::collection::btree_map(
            (0usize..2, 0usize..5),
            (1u8..4, 0usize..3, 0usize..3),
            0..8,
        );
        (rules.clone(), rules, services).prop_map(|(dev, prod, services)| {
            let world = World::default().rules("dev", &dev).rules("prod", &prod);
            services.into_iter().fold(
                world,
                |world, ((environment, name), (version, source, state))| {
                    let (environment, name) = (
                        ["dev", "prod"][environment],
                        ["a", "b", "c", "d", "e"][name],
                    );
                    world.with(
                        environment,
                        name,
                        ["x", "y", "z"][source],
                        version,
                        ["running", "stopped", "absent"][state],
                    )
                },
            )
        })
    }

    fn histories() -> impl Strategy<Value = History> {
        let entry = (0usize..2, 0usize..5, 0usize..3, 0i64..1000);
        prop::collection::vec(entry, 0..12).prop_map(|mut entries| {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.3));
            let mut history = History::default();
            for (where_, name, source, age) in entries {
                let source = format!("https://git.example.org/{}.git", ["x", "y", "z"][source]);
                let name = service(["a", "b", "c", "d", "e"][name]);
                history.record(
                    &environment(["dev", "prod"][where_]),
                    &name,
                    Some(&source),
                    at(-age),
                );
            }
            history
        })
    }

    proptest! {
        #[test]
        fn the_same_inputs_give_the_same_verdicts(old in worlds(), new in worlds(), history in histories()) {
            let once = judge(&old.0, &new.0, &NONE, &history, NOW);
            prop_assert_eq!(&once, &judge(&old.0.clone(), &new.0.clone(), &NONE, &history.clone(), NOW));
            prop_assert_eq!(once.len(), changes(&old.0, &new.0).len());
        }

        /// What waits is not waiting any more, for that reason, at the time that was shown; a second before it is.
        #[test]
        fn waits_end_when_they_say(old in worlds(), new in worlds(), history in histories()) {
            for one in judge(&old.0, &new.0, &NONE, &history, NOW) {
                if let Verdict::Wait { until: Some(until), .. } = one.verdict {
                    let before = judge(&old.0, &new.0, &NONE, &history, Timestamp::from_second(until.as_second() - 1).unwrap());
                    let subject = one.change.subject.as_str();
                    prop_assert!(until > NOW);
                    prop_assert!(!verdict_on(&before, one.change.environment.as_str(), subject).is_admit());
                }
            }
        }

        /// An environment's verdicts do not depend on any other environment.
        #[test]
        fn environments_are_independent(old in worlds(), new in worlds(), history in histories()) {
            let only = |world: &World| {
                let mut world = world.0.clone();
                world.releases.retain(|(environment, _), _| environment.as_str() == "dev");
                world.rules.retain(|environment, _| environment.as_str() == "dev");
                world
            };
            let mut both = judge(&old.0, &new.0, &NONE, &history, NOW);
            both.retain(|one| one.change.environment.as_str() == "dev");
            prop_assert_eq!(both, judge(&only(&old), &only(&new), &NONE, &history, NOW));
        }
    }
}
