//! Removal: a service leaves an environment in two steps, and few at once.
//!
//! First `state: absent` is admitted, which has the hosts remove it; then its overlay may go. A missing file alone
//! removes nothing: it may be a mistake. Each step counts towards `maxRemovals`, and a candidate with more of them
//! in one environment has all of them refused: which were meant cannot be told. An environment's rules go last.

use state::Code;
use state::manifest::{Change, Subject};
use state::render::Rendered;
use state::service::DesiredState;

use super::{Case, Verdict, release};

/// Judges a change that removes a service or an environment; admits every other.
pub fn judge(case: &Case<'_>) -> Verdict {
    let change = case.change;
    if !is_removal(change, case.admitted, case.wanted) {
        return Verdict::Admit;
    }
    if change.subject == Subject::Rules {
        return environment(case);
    }
    if change.to.is_none() && !is_absent(case.admitted, change) {
        let why = "its overlay is missing, but `state: absent` was never admitted";
        return Verdict::refuse(Code::RemovalRefused, why);
    }
    let max = case.rules.max_removals;
    let at_once = case
        .changes
        .iter()
        .filter(|other| other.environment == change.environment)
        .filter(|other| other.subject != Subject::Rules)
        .filter(|other| is_removal(other, case.admitted, case.wanted))
        .count();
    if u32::try_from(at_once).is_ok_and(|count| count <= max) {
        return Verdict::Admit;
    }
    let why = format!("{at_once} services would be removed at once, `maxRemovals` is {max}");
    Verdict::refuse(Code::RemovalRefused, why)
}

/// Judges the removal of an environment's rules: its services must have been removed from their hosts before.
fn environment(case: &Case<'_>) -> Verdict {
    let environment = &case.change.environment;
    let mut present = case.admitted.releases.iter().filter(|((of, _), release)| {
        of == environment && release.spec.state != DesiredState::Absent
    });
    match present.next() {
        None => Verdict::Admit,
        Some(((_, service), _)) => Verdict::refuse(
            Code::RemovalRefused,
            format!("the environment still has services, '{service}' among them"),
        ),
    }
}

/// Says whether `change` takes a service or an environment a step further out of the world.
fn is_removal(change: &Change, admitted: &Rendered, wanted: &Rendered) -> bool {
    let becomes_absent = is_absent(wanted, change) && !is_absent(admitted, change);
    change.from.is_some() && (change.to.is_none() || becomes_absent)
}

fn is_absent(rendered: &Rendered, change: &Change) -> bool {
    release(rendered, change).is_some_and(|release| release.spec.state == DesiredState::Absent)
}
