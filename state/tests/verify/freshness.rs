//! Step 8: whether what a remote shows is still the newest.

use jiff::SignedDuration;
use state::Code;
use state::digest::Sha256Hash;
use state::key::SigningKey;
use state::sshsig::{self, Namespace};
use state::verify::Validity;

use crate::support::{Fleet, Host, START, at, refused};

#[test]
fn the_tip_is_fresh_for_a_day_and_longer_with_a_statement() {
    let fleet = Fleet::with_admissions(1);
    let mut host = Host::of(&fleet);
    let day = SignedDuration::from_hours(24);
    let intake = host.intake(&fleet).unwrap();
    let until = at(1) + day;
    assert_eq!(intake.validity(at(30)), Validity::Fresh { until });
    assert_eq!(intake.validity(until), Validity::Stale { since: until });
    fleet.freshen(&fleet.last(), at(20));
    let intake = host.intake(&fleet).unwrap();
    assert_eq!(
        intake.validity(until),
        Validity::Fresh {
            until: at(20) + day
        }
    );
    assert_eq!(host.floor.time, at(20));
}

#[test]
fn a_stale_tip_is_taken_in_as_stale() {
    let fleet = Fleet::with_admissions(1);
    let later = at(60 * 48);
    let intake = Host::of(&fleet).intake_at(&fleet, later).unwrap();
    assert!(matches!(intake.validity(later), Validity::Stale { .. }));
}

/// The code with which a host refuses a statement about the tip, edited.
fn edited(edit: impl FnOnce(&mut state::freshness::Freshness)) -> Code {
    let fleet = Fleet::with_admissions(1);
    fleet.freshen_edited(&fleet.last(), at(2), edit);
    refused(&fleet)
}

#[test]
fn a_statement_of_another_fleet_is_refused() {
    assert_eq!(
        edited(|statement| statement.domain.0[0] ^= 1),
        Code::WrongDomain
    );
}

#[test]
fn a_statement_that_lives_too_long_or_comes_from_the_future_is_refused() {
    assert_eq!(
        edited(|statement| statement.expires = at(60 * 24 * 9)),
        Code::FreshnessMismatch
    );
    assert_eq!(
        edited(|statement| statement.issued = at(60)),
        Code::IssuedInFuture
    );
}

#[test]
fn a_statement_about_another_manifest_of_the_same_sequence_is_a_fork() {
    assert_eq!(
        edited(|statement| statement.manifest = Sha256Hash::of(b"")),
        Code::LogFork
    );
}

#[test]
fn a_statement_that_knows_a_newer_manifest_shows_that_it_is_withheld() {
    assert_eq!(
        edited(|statement| statement.sequence = 2),
        Code::LogWithheld
    );
}

#[test]
fn a_statement_about_an_older_manifest_extends_nothing() {
    let mut fleet = Fleet::with_admissions(1);
    let old = fleet.last();
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit();
    fleet.freshen(&old, at(20));
    let intake = Host::of(&fleet).intake(&fleet).unwrap();
    let until = at(2) + SignedDuration::from_hours(24);
    assert_eq!(intake.validity(START), Validity::Fresh { until });
}

#[test]
fn a_statement_by_a_stranger_for_another_purpose_or_in_another_form_is_refused() {
    let fleet = Fleet::with_admissions(1);
    let text = |text: &str| format!("writ freshness v1\n{text}");
    let signed = |key: &SigningKey, namespace, text: &str| {
        fleet.publish_freshness(text, &sshsig::sign(key, namespace, text.as_bytes()));
        refused(&fleet)
    };
    let stranger = SigningKey::generate();
    assert_eq!(
        signed(&stranger, Namespace::Freshness, &text("")),
        Code::FreshnessUnsigned
    );
    assert_eq!(
        signed(&fleet.policy, Namespace::Manifest, &text("")),
        Code::FreshnessUnsigned
    );
    assert_eq!(
        signed(&fleet.policy, Namespace::Freshness, &text("")),
        Code::FreshnessMalformed
    );
    let empty = fleet.commit_files(&Default::default(), &[]);
    fleet.move_branch("fresh", &empty);
    assert_eq!(refused(&fleet), Code::FreshnessMalformed);
}
