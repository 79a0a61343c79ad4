//! What is held: by authors, in their overlays; by policy, in the log itself, from manifest to manifest.

use std::collections::BTreeMap;

use state::Refusal;
use state::commit::{self, Links};
use state::digest::ObjectId;
use state::git::{Git, Kind};
use state::manifest::Hold;
use state::render::{self, Holds};
use state::tree::{self, Objects as _};

use crate::candidate::Candidate;
use crate::change::Place;
use crate::log::Log;

/// A decision about policy's own holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Holds what stands at a place, for a reason.
    Hold(Hold),
    /// Lifts the hold of a place, if it is policy's.
    Lift(Place),
}

fn place(hold: &Hold) -> Place {
    (hold.environment.clone(), hold.subject.clone())
}

/// All holds of the next manifest: those of policy in `last`, the manifest before, with `edit` made, and what authors
/// hold now. Where both hold, policy's reason stands, so that its hold outlives the author's.
pub fn next(last: &[Hold], authors: &Holds, edit: Option<&Edit>) -> Vec<Hold> {
    let by_authors = authors.keys().map(|(environment, service)| Hold {
        environment: environment.clone(),
        subject: state::manifest::Subject::Service(service.clone()),
        reason: Hold::AUTHOR.to_owned(),
    });
    let mut holds: BTreeMap<Place, Hold> = by_authors.map(|hold| (place(&hold), hold)).collect();
    let lifted = match edit {
        Some(Edit::Lift(place)) => Some(place),
        _ => None,
    };
    let kept = last.iter().filter(|hold| hold.reason != Hold::AUTHOR);
    let kept = kept.filter(|hold| Some(&place(hold)) != lifted);
    holds.extend(kept.map(|hold| (place(hold), hold.clone())));
    if let Some(Edit::Hold(hold)) = edit {
        holds.insert(place(hold), hold.clone());
    }
    holds.into_values().collect()
}

/// What policy itself decided between two manifests: what it holds from now on, or for another reason, and what no more.
/// Nothing else says why, so there is nothing to compare it with.
pub fn edits(before: &[Hold], after: &[Hold]) -> Vec<Edit> {
    let own = |holds: &[Hold]| -> BTreeMap<Place, Hold> {
        next(holds, &Holds::new(), None)
            .into_iter()
            .map(|hold| (place(&hold), hold))
            .collect()
    };
    let (before, after) = (own(before), own(after));
    let lifted = before.keys().filter(|place| !after.contains_key(place));
    let held = after
        .iter()
        .filter(|(place, hold)| before.get(place) != Some(hold));
    let lifted = lifted.cloned().map(Edit::Lift);
    lifted
        .chain(held.map(|(_, hold)| Edit::Hold(hold.clone())))
        .collect()
}

/// Says whether authors hold something else in `candidate` than in the commit of the last admission, or for another
/// reason. Hosts read that in the newest manifest's commit, so it takes a new one even where no line of it differs.
///
/// # Errors
/// Those of reading the two trees.
pub fn differs(git: &Git, log: &Log, candidate: &Candidate) -> Result<bool, Refusal> {
    let Some(last) = log.verified().last() else {
        return Ok(false);
    };
    let tree = |commit: &ObjectId| {
        let raw = git.object(Kind::Commit, commit, commit::MAX_BYTES)?;
        Ok::<_, Refusal>(Links::parse(&raw)?.tree)
    };
    let before = tree(&last.manifest.author.commit)?;
    let after = tree(&candidate.origin.commit)?;
    let changes = tree::changes(git, Some(&before), &after, &log.trust().limits)?;
    Ok(changes.iter().any(render::changes_hold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{environment, service};

    fn hold(name: &str, reason: &str) -> Hold {
        Hold {
            environment: environment("dev"),
            subject: service(name),
            reason: reason.to_owned(),
        }
    }

    fn authors(names: &[&str]) -> Holds {
        let names = names.iter();
        names
            .map(|name| {
                let place = (environment("dev"), name.parse().unwrap());
                (place, "why".to_owned())
            })
            .collect()
    }

    #[test]
    fn policys_holds_are_carried_over_and_authors_holds_are_what_they_say_now() {
        let last = [hold("api", "AUTHOR"), hold("web", "BAD_BUILD")];
        assert_eq!(next(&last, &authors(&[]), None), [hold("web", "BAD_BUILD")]);
        let both = [hold("db", "AUTHOR"), hold("web", "BAD_BUILD")];
        assert_eq!(next(&last, &authors(&["db", "web"]), None), both);
    }

    #[test]
    fn policy_holds_and_lifts_what_is_its_own() {
        let (web, api) = (hold("web", "BAD_BUILD"), hold("api", "AUTHOR"));
        let edit = Edit::Hold(web.clone());
        let held = next(&[], &authors(&["api"]), Some(&edit));
        assert_eq!(held, [api.clone(), web]);
        let lift = |name: &str| Edit::Lift((environment("dev"), service(name)));
        let lifted = next(&held, &authors(&["api"]), Some(&lift("web")));
        assert_eq!(lifted, std::slice::from_ref(&api));
        let lifted = next(&lifted, &authors(&["api"]), Some(&lift("api")));
        assert_eq!(lifted, [api], "the author lifts it in the overlay");
        let both = authors(&["web"]);
        let lifted = next(&held, &both, Some(&lift("web")));
        assert_eq!(lifted, [hold("web", "AUTHOR")]);
    }

    #[test]
    fn only_what_is_policys_own_is_its_decision() {
        let before = [
            hold("api", "AUTHOR"),
            hold("db", "OLD"),
            hold("web", "BAD_BUILD"),
        ];
        let after = [
            hold("api", "SLOW"),
            hold("db", "NEW"),
            hold("web", "AUTHOR"),
        ];
        let lift = Edit::Lift((environment("dev"), service("web")));
        let [api, db, _] = after.clone();
        assert_eq!(
            edits(&before, &after),
            [lift, Edit::Hold(api), Edit::Hold(db)]
        );
        assert_eq!(edits(&before[..1], &[]), []);
    }
}
