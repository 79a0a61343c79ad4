//! Removal: a service leaves an environment in two steps, and few at once.
//!
//! First `state: absent` is admitted, which has the hosts remove it; then its overlay may go. A missing file alone
//! removes nothing: it may be a mistake. Each step counts towards `maxRemovals`, and a candidate with more of them
//! in one environment has all of them refused: which were meant cannot be told. An environment's rules go last.

use state::Code;
use state::manifest::{Change, Subject};
use state::render::Rendered;
use state::service::DesiredState;

use super::{Case, Verdict};
use crate::change::release;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;
    use crate::judge::judge;
    use crate::testing::{NONE, NOW, World, verdict_on};
    use serde_json::json;

    fn world() -> World {
        World::default().rules("dev", &json!({}))
    }

    fn verdict(old: &World, new: &World, subject: &str) -> Verdict {
        let judged = judge(&old.0, &new.0, &NONE, &History::default(), NOW);
        verdict_on(&judged, "dev", subject).clone()
    }

    #[track_caller]
    fn assert_refused(verdict: &Verdict) {
        assert!(
            matches!(verdict, Verdict::Refuse(why) if why.code == Code::RemovalRefused),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_missing_overlay_removes_nothing() {
        assert_refused(&verdict(&world().runs("dev", "web", 1), &world(), "web"));
    }

    #[test]
    fn a_service_leaves_in_two_steps() {
        let running = world().runs("dev", "web", 1);
        let absent = world().with("dev", "web", "web", 1, "absent");
        assert!(verdict(&running, &absent, "web").is_admit());
        assert!(verdict(&absent, &world(), "web").is_admit());
        assert!(
            verdict(&world(), &absent, "web").is_admit(),
            "new and absent removes nothing"
        );
    }

    #[test]
    fn more_removals_than_allowed_are_all_refused() {
        let running = world().runs("dev", "web", 1).runs("dev", "api", 1);
        let absent = world()
            .with("dev", "web", "web", 1, "absent")
            .with("dev", "api", "api", 1, "absent");
        assert_refused(&verdict(&running, &absent, "web"));
        assert_refused(&verdict(&running, &absent, "api"));
        let two = json!({ "maxRemovals": 2 });
        let (running, absent) = (running.rules("dev", &two), absent.rules("dev", &two));
        assert!(verdict(&running, &absent, "web").is_admit());
    }

    #[test]
    fn an_environment_leaves_after_its_services() {
        assert!(verdict(&world(), &World::default(), "environment").is_admit());
        assert_refused(&verdict(
            &world().runs("dev", "web", 1),
            &World::default(),
            "environment",
        ));
        let absent = world().with("dev", "web", "web", 1, "absent");
        assert!(verdict(&absent, &World::default(), "environment").is_admit());
    }
}
