//! Steps 12 and 13: what authors and policy hold.

use state::Code;
use state::manifest::Hold;
use state::verify;

use crate::support::{Draft, Fleet, Host, at, web_refused};

fn hold(reason: &str) -> Hold {
    Hold {
        environment: "prod".parse().unwrap(),
        subject: "web".parse().unwrap(),
        reason: reason.into(),
    }
}

/// Holds `web`, and releases it too, in one commit.
fn author_holds(fleet: &Fleet, key: &str) {
    fleet.pin("web", 2);
    let path = "environments/prod/web.yaml";
    let overlay = std::fs::read_to_string(fleet.path("state").join(path)).unwrap();
    fleet.write(path, &format!("{overlay}{key}: \"too \\e[2J slow\"\n"));
}

#[test]
fn a_release_that_the_manifest_holds_is_refused() {
    let mut fleet = Fleet::new();
    fleet.admit_edited(|draft| draft.manifest.holds = vec![hold("INCIDENT")]);
    assert_eq!(web_refused(&fleet), Code::Held);
}

#[test]
fn an_authors_hold_is_held_with_its_reason() {
    let mut fleet = Fleet::with_admissions(1);
    author_holds(&fleet, "hold");
    fleet.commit("alice", "hold it");
    fleet.admit_edited(|draft| draft.manifest.holds = vec![hold("AUTHOR")]);
    let releases = Host::of(&fleet).releases(&fleet).unwrap();
    let refusal = releases["web"].clone().unwrap_err();
    assert_eq!(refusal.code, Code::Held);
    let text = refusal.to_string();
    assert!(
        text.contains(r"by its author: too \u{1b}[2J slow"),
        "{text}"
    );
    // Policy's own hold of the same service says as much.
    let mut fleet = Fleet::with_admissions(1);
    author_holds(&fleet, "hold");
    fleet.commit("alice", "hold it");
    fleet.admit_edited(|draft| draft.manifest.holds = vec![hold("INCIDENT")]);
    assert_eq!(web_refused(&fleet), Code::Held);
}

#[test]
fn a_policy_that_leaves_an_authors_hold_out_is_found_out() {
    for key in ["hold", "\"\\x68old\""] {
        let mut fleet = Fleet::with_admissions(1);
        author_holds(&fleet, key);
        fleet.commit("alice", "hold it");
        fleet.admit();
        assert_eq!(web_refused(&fleet), Code::HoldMissing, "{key}");
    }
}

#[test]
fn a_lifted_hold_is_over_and_lifting_needs_the_right() {
    let mut fleet = Fleet::with_admissions(1);
    author_holds(&fleet, "hold");
    fleet.commit("alice", "hold it");
    fleet.admit_edited(|draft| draft.manifest.holds = vec![hold("AUTHOR")]);
    fleet.pin("web", 2);
    fleet.commit("alice", "lift it");
    fleet.admit_edited(|draft| draft.manifest.changes.clear());
    let releases = Host::of(&fleet).releases(&fleet).unwrap();
    assert!(releases["web"].is_ok(), "{releases:?}");

    let mut fleet = Fleet::with_admissions(1);
    author_holds(&fleet, "hold");
    fleet.commit("ci", "hold it without the right");
    fleet.admit_edited(|draft| draft.manifest.holds = vec![hold("AUTHOR")]);
    assert_eq!(web_refused(&fleet), Code::PathNotAllowed);
}

#[test]
fn policy_signs_exactly_the_holds_of_authors_in_their_name() {
    let fleet = Fleet::with_admissions(1);
    author_holds(&fleet, "hold");
    fleet.commit("alice", "hold it");
    let check = |edit: &dyn Fn(&mut Draft)| {
        let (git, tips) = (fleet.git(), fleet.tips());
        let chain = verify::Chain::read(&git, &tips.trust, &fleet.domain).unwrap();
        let log = verify::log(&git, chain, Some(&tips.admitted), at(30)).unwrap();
        let mut draft = fleet.draft();
        edit(&mut draft);
        log.check_next(&git, &draft.manifest, &draft.files, at(30))
    };
    check(&|draft| draft.manifest.holds = vec![hold("AUTHOR")]).unwrap();
    check(&|draft| draft.manifest.holds = vec![hold("INCIDENT")]).unwrap();
    let api = Hold {
        subject: "api".parse().unwrap(),
        ..hold("AUTHOR")
    };
    for holds in [vec![], vec![api, hold("AUTHOR")]] {
        let refusal = check(&|draft| draft.manifest.holds.clone_from(&holds)).unwrap_err();
        assert_eq!(refusal.code, Code::SelfCheckFailed);
        assert!(refusal.detail.starts_with("HOLD_MISSING"), "{refusal}");
    }
}
