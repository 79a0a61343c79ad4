//! Steps 11 and 12: what the rules demand that were in force when a release was admitted.

use state::Code;
use state::digest::ObjectId;
use state::floor::Lineage;

use crate::support::{Fleet, Host, refused, web_refused};

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

#[test]
fn the_log_is_not_read_back_to_rules_that_were_verified() {
    let mut fleet = fleet(REQUIRED);
    let mut host = Host::of(&fleet);
    let first = fleet.tips().admitted;
    let next = |fleet: &mut Fleet, version| {
        fleet.pin("web", version);
        fleet.commit_with_trailer("alice");
        fleet.admit();
    };
    next(&mut fleet, 2);
    next(&mut fleet, 3);
    assert!(host.releases(&fleet).unwrap()["web"].is_ok());
    assert_eq!(
        host.floor.rules.as_ref().map(|rules| rules.sequence),
        Some(3)
    );

    let id: ObjectId = fleet
        .git_as("alice", &["rev-parse", &format!("{first}:manifest")])
        .parse()
        .unwrap();
    let (folder, name) = (&id.to_string()[..2], &id.to_string()[2..]);
    std::fs::remove_file(fleet.path("state/.git/objects").join(folder).join(name)).unwrap();
    next(&mut fleet, 4);
    assert!(host.releases(&fleet).unwrap()["web"].is_ok());
    assert_eq!(refused(&fleet), Code::ObjectMissing, "who has to, does");
    // By another trust file a key may have ended.
    let trust = host.floor.rules.clone().unwrap().trust;
    let other = Lineage {
        trust: state::manifest::TrustRef {
            version: trust.version + 1,
            ..trust
        },
        sequence: 4,
        extra: Default::default(),
    };
    host.floor.advance_rules(other);
    let refusal = host.releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::ObjectMissing, "{refusal}");
}
