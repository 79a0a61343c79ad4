//! Steps 11 and 12: what the rules demand that were in force when a release was admitted.

use state::Code;

use crate::support::{Fleet, Host, web_refused};

const REQUIRED: &str = "hosts: any\ntreeTrailer: required\n";
const OPTIONAL: &str = "hosts: any\n";

/// A fleet whose environment has had the rules `rules` since manifest 1, from a commit with the trailer.
fn fleet(rules: &str) -> Fleet {
    let mut fleet = Fleet::new();
    set(&mut fleet, rules);
    fleet
}

/// Admits other rules, from a commit with the trailer.
fn set(fleet: &mut Fleet, rules: &str) {
    fleet.write("environments/prod/environment.yaml", rules);
    fleet.commit_with_trailer("alice");
    fleet.admit();
}

#[test]
fn a_release_without_the_required_trailer_is_refused_and_with_it_is_not() {
    let mut fleet = fleet(REQUIRED);
    assert!(Host::of(&fleet).releases(&fleet).unwrap()["web"].is_ok());
    fleet.pin("web", 2);
    fleet.commit("alice", "no trailer");
    fleet.admit();
    assert_eq!(web_refused(&fleet), Code::TrailerMissing);
    fleet.pin("web", 3);
    fleet.commit_with_trailer("alice");
    fleet.admit();
    assert!(Host::of(&fleet).releases(&fleet).unwrap()["web"].is_ok());
}

#[test]
fn a_release_is_judged_by_the_rules_in_force_when_it_was_admitted() {
    let mut strict = fleet(REQUIRED);
    strict.pin("web", 2);
    strict.commit("alice", "no trailer");
    strict.admit();
    set(&mut strict, OPTIONAL);
    assert_eq!(web_refused(&strict), Code::TrailerMissing, "relaxed later");
    let mut loose = fleet(OPTIONAL);
    loose.pin("web", 2);
    loose.commit("alice", "no trailer");
    loose.admit();
    set(&mut loose, REQUIRED);
    assert!(Host::of(&loose).releases(&loose).unwrap()["web"].is_ok());
}

#[test]
fn one_manifest_cannot_relax_the_rules_for_what_it_admits() {
    let mut fleet = fleet(REQUIRED);
    fleet.write("environments/prod/environment.yaml", OPTIONAL);
    fleet.pin("web", 2);
    fleet.commit("alice", "relaxed and used at once");
    fleet.admit();
    let refusal = Host::of(&fleet).releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::TrailerMissing, "{refusal}");
}
