//! Judges a candidate: every rule over every change, each change on its own. Pure.
//!
//! A change is judged by the rules that were admitted before it; only an environment that is new is judged by its
//! own. One service that waits delays no other: changes meet only in what they share, the rate of their source
//! repository and the number of removals at once.

use jiff::Timestamp;
use state::Code;
use state::environment::Environment;
use state::manifest::{Change, Subject};
use state::name::EnvironmentName;
use state::render::Rendered;

use crate::change::changes;
use crate::history::History;
use crate::rule::{Case, Verdict, cooldown, rate, removal, source};

/// The rules of admission, in the order in which their verdicts are named.
const RULES: &[fn(&Case<'_>) -> Verdict] = &[removal::judge, rate::judge, cooldown::judge];

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
    history: &History,
    now: Timestamp,
) -> Vec<Judged> {
    let changes = changes(admitted, wanted);
    let mut order: Vec<_> = changes.iter().collect();
    order.sort_by_key(|change| turn(change));
    let mut history = history.clone();
    let mut judged: Vec<Judged> = Vec::with_capacity(changes.len());
    for change in order {
        let rules = rules_in_force(&change.environment, admitted, wanted);
        let verdict = match rules {
            Some(rules) => {
                let case = Case {
                    change,
                    changes: &changes,
                    rules,
                    admitted,
                    wanted,
                    history: &history,
                    now,
                };
                let bound = bound_to(change, &judged);
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
            history.record(&change.environment, &change.subject, source, now);
        }
        judged.push(Judged {
            change: change.clone(),
            verdict,
        });
    }
    judged.sort_by(|a, b| place(&a.change).cmp(&place(&b.change)));
    judged
}

/// Rules come before the services that they allow; an environment's rules leave after its services.
fn turn(change: &Change) -> u8 {
    match change.subject {
        Subject::Rules if leaves(change) => 2,
        Subject::Rules => 0,
        Subject::Service(_) => 1,
    }
}

/// Where manifests sort `change`.
fn place(change: &Change) -> (&EnvironmentName, &Subject) {
    (&change.environment, &change.subject)
}

/// Says whether `change` takes an environment's rules away.
fn leaves(change: &Change) -> bool {
    change.subject == Subject::Rules && change.to.is_none()
}

/// The rules that judge `environment`: those admitted; its own if it is new.
fn rules_in_force<'a>(
    environment: &EnvironmentName,
    admitted: &'a Rendered,
    wanted: &'a Rendered,
) -> Option<&'a Environment> {
    let rules = admitted.rules.get(environment);
    let rules = rules.or_else(|| wanted.rules.get(environment));
    rules.map(|rules| &rules.spec)
}

/// What `change` must wait for within its environment: services of a new environment for its rules, the rules of
/// one that leaves for its services. So no admitted tree has a service without rules.
fn bound_to(change: &Change, judged: &[Judged]) -> Verdict {
    judged
        .iter()
        .filter(|other| other.change.environment == change.environment)
        .filter(|other| {
            leaves(change)
                || (other.change.subject == Subject::Rules && other.change.from.is_none())
        })
        .fold(Verdict::Admit, |verdict, other| {
            verdict.and(other.verdict.clone())
        })
}
