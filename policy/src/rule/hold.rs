//! Hold: what an author or policy holds does not change until the hold is lifted. A commit that lifts an author's hold
//! may change the service at once.

use state::Code;
use state::manifest::{Hold, Subject};

use super::{Case, Verdict};

/// Judges the change by the holds that the next manifest will have.
pub fn judge(case: &Case<'_>) -> Verdict {
    let change = case.change;
    let hold = case
        .evidence
        .held
        .iter()
        .find(|hold| hold.place() == change.place());
    let Some(hold) = hold else {
        return Verdict::Admit;
    };
    let why = match &change.subject {
        Subject::Service(service) if hold.reason == Hold::AUTHOR => {
            let place = (change.environment.clone(), service.clone());
            let reason = case.wanted.holds.get(&place);
            format!("held by its author: {}", reason.map_or("", String::as_str))
        }
        _ => format!("held by policy: {}", hold.reason),
    };
    Verdict::wait_for(Code::Held, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Evidence;
    use crate::history::History;
    use crate::hold::next;
    use crate::judge::judge;
    use crate::testing::{NOW, World, environment, service, verdict_on};
    use serde_json::json;

    fn held(last: &[Hold], reason: Option<&str>) -> Verdict {
        let old = World::default().rules("dev", &json!({}));
        let old = old.runs("dev", "web", 1).runs("dev", "api", 1);
        let mut new = World::default().rules("dev", &json!({}));
        new = new.runs("dev", "web", 2).runs("dev", "api", 2);
        let place = (environment("dev"), "web".parse().unwrap());
        let reason = reason.map(|reason| (place, reason.to_owned()));
        new.0.holds.extend(reason);
        let evidence = Evidence {
            held: next(last, &new.0.holds, None),
            ..Evidence::default()
        };
        let judged = judge(&old.0, &new.0, &evidence, &History::default(), NOW);
        assert!(verdict_on(&judged, "dev", "api").is_admit());
        verdict_on(&judged, "dev", "web").clone()
    }

    #[test]
    fn what_is_held_waits_for_somebody_to_lift_it() {
        let by_policy = Hold {
            environment: environment("dev"),
            subject: service("web"),
            reason: "BAD_BUILD".to_owned(),
        };
        let says = |verdict: Verdict| match verdict {
            Verdict::Wait { until: None, why } if why.code == Code::Held => why.detail,
            other => panic!("{other:?}"),
        };
        assert!(held(&[], None).is_admit());
        assert_eq!(
            says(held(&[], Some("broken"))),
            "held by its author: broken"
        );
        let last = std::slice::from_ref(&by_policy);
        assert_eq!(says(held(last, None)), "held by policy: BAD_BUILD");
    }
}
