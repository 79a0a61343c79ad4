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
