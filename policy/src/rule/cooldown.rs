//! Cooldown: after an admission, a service (or the rules) of an environment rests for the environment's `cooldown`.
//!
//! With `onCooldown: queue`, the default, what comes too early waits and is judged again from the then newest
//! `main`; with `refuse` it is refused.

use jiff::SignedDuration;
use state::Code;
use state::environment::OnCooldown;

use super::{Case, Verdict};

/// Judges the change by the time since the last admission at its place.
pub fn judge(case: &Case<'_>) -> Verdict {
    let cooldown = case.rules.cooldown;
    let change = case.change;
    let Some(last) = case
        .history
        .admissions(&change.environment, &change.subject)
        .last()
    else {
        return Verdict::Admit;
    };
    let rest =
        SignedDuration::from_secs(i64::try_from(cooldown.0.div_ceil(1000)).unwrap_or(i64::MAX));
    let until = last.saturating_add(rest).unwrap_or(*last);
    if until <= case.now {
        return Verdict::Admit;
    }
    let why = format!("admitted at {last}, rests for {cooldown}, until {until}");
    match case.rules.on_cooldown {
        OnCooldown::Queue => Verdict::wait(until, Code::Cooldown, why),
        OnCooldown::Refuse => Verdict::refuse(Code::Cooldown, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;
    use crate::judge::judge;
    use crate::testing::{NONE, NOW, World, at, environment, service, verdict_on};
    use serde_json::json;

    fn verdict(on_cooldown: &str, last: i64) -> Verdict {
        let rules = json!({ "cooldown": "10m", "onCooldown": on_cooldown });
        let world = World::default().rules("dev", &rules);
        let (old, new) = (
            world.clone().runs("dev", "web", 1),
            world.runs("dev", "web", 2),
        );
        let mut history = History::default();
        history.record(&environment("dev"), &service("web"), None, at(last));
        verdict_on(&judge(&old.0, &new.0, &NONE, &history, NOW), "dev", "web").clone()
    }

    #[test]
    fn a_change_during_the_cooldown_waits_to_its_end() {
        assert!(verdict("queue", -600).is_admit());
        let Verdict::Wait { until, why } = verdict("queue", -599) else {
            panic!("it waits");
        };
        assert_eq!((until, why.code), (Some(at(1)), Code::Cooldown));
    }

    #[test]
    fn on_cooldown_refuse_refuses_and_says_until_when() {
        let Verdict::Refuse(why) = verdict("refuse", -60) else {
            panic!("it is refused");
        };
        assert_eq!(why.code, Code::Cooldown);
        assert!(why.detail.contains(&at(540).to_string()), "{why}");
    }
}
