//! Step 4: the chain of trust files, and where root takes up a log again.

use jiff::Timestamp;
use state::Code;
use state::digest::Sha256Hash;
use state::key::SigningKey;

use crate::support::{Fleet, Host, at, refused};

const BOTH: &[&str] = &["root1", "root2"];

#[test]
fn a_second_version_is_accepted_and_remembered() {
    let mut fleet = Fleet::with_admissions(1);
    fleet.publish_second_trust("");
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    assert_eq!(host.floor.trust.version, 2);
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    assert_eq!(fleet.admit().trust.version, 2);
    host.intake(&fleet).unwrap();
}

#[test]
fn a_version_without_the_root_threshold_is_unsigned() {
    let fleet = Fleet::with_admissions(1);
    let first = fleet.trust_file(1, None, "");
    let second = fleet.trust_file(2, Some(Sha256Hash::of(first.as_bytes())), "");
    for signers in [&["root1"][..], &["root1", "root1"], &["root1", "alice"]] {
        fleet.publish_trust(&[(1, &first, BOTH), (2, &second, signers)]);
        assert_eq!(refused(&fleet), Code::TrustUnsigned, "{signers:?}");
    }
}

#[test]
fn a_first_version_of_another_fleet_is_refused() {
    let fleet = Fleet::with_admissions(1);
    let other = fleet.trust_file(1, None, "limits: { files: 10, bytes: 1MiB }\n");
    fleet.publish_trust(&[(1, &other, BOTH)]);
    assert_eq!(refused(&fleet), Code::WrongDomain);
}

#[test]
fn a_version_that_follows_another_is_a_fork() {
    let fleet = Fleet::with_admissions(1);
    let first = fleet.trust_file(1, None, "");
    let second = fleet.trust_file(2, Some(Sha256Hash::of(b"another first")), "");
    fleet.publish_trust(&[(1, &first, BOTH), (2, &second, BOTH)]);
    assert_eq!(refused(&fleet), Code::TrustFork);
}

#[test]
fn an_older_trust_than_was_accepted_is_a_rollback_and_another_one_a_fork() {
    let fleet = Fleet::with_admissions(1);
    fleet.publish_second_trust("");
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    let first = fleet.trust_file(1, None, "");
    fleet.publish_trust(&[(1, &first, BOTH)]);
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::TrustRollback);
    fleet.publish_second_trust("limits: { files: 10, bytes: 1MiB }\n");
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::TrustFork);
}

#[test]
fn an_expired_trust_is_refused_after_it_was_remembered() {
    let fleet = Fleet::with_admissions(1);
    fleet.publish_second_trust("");
    let mut host = Host::of(&fleet);
    let late: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(
        host.intake_at(&fleet, late).unwrap_err().code,
        Code::TrustExpired
    );
    assert_eq!((host.floor.trust.version, host.persisted), (2, 1));
}

#[test]
fn a_policy_key_that_was_ended_counts_up_to_its_last_sequence() {
    let mut fleet = Fleet::with_admissions(2);
    fleet.rotate_policy(2);
    fleet.freshen(&fleet.last(), at(3));
    let mut host = Host::of(&fleet);
    assert_eq!(host.intake(&fleet).unwrap().manifest().sequence, 2);
    let mut fleet = Fleet::with_admissions(2);
    fleet.rotate_policy(1);
    fleet.freshen(&fleet.last(), at(3));
    assert_eq!(refused(&fleet), Code::KeyEnded);
}

#[test]
fn a_log_goes_on_where_root_anchors_it_whatever_a_thief_has_signed() {
    let mut fleet = Fleet::with_admissions(2);
    let good = state::verify::Entry::read(&fleet.git(), &fleet.tips().admitted).unwrap();
    // A thief of the policy key signs two more; a host takes them in.
    let main = fleet.main();
    for version in [66, 67] {
        fleet.pin("web", version);
        fleet.commit("alice", "what a thief admits");
        fleet.admit();
    }
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    assert_eq!(host.floor.sequence, 4);
    // Root ends the key, vouches for the second manifest, and the log goes on at 1000.
    fleet.move_branch("main", &main);
    fleet.git_as("alice", &["reset", "-q", "--hard"]);
    fleet.fork_from(&good.commit, &good.manifest);
    fleet.policy = SigningKey::generate();
    let anchor = format!(
        "anchor: {{ sequence: 2, manifest: \"sha256:{}\", next: 1000, main: \"sha256:{}\" }}\n",
        good.manifest.hash(),
        good.manifest.author.payload
    );
    fleet.publish_second_trust_from_first(&anchor);
    fleet.pin("web", 9);
    fleet.commit("alice", "after the theft");
    fleet.admit_edited(|draft| {
        draft.manifest.sequence = 1000;
        draft.manifest.issued = at(20);
    });
    assert_eq!(host.intake(&fleet).unwrap().manifest().sequence, 1000);
    assert!(host.releases(&fleet).unwrap()["web"].is_ok());
    let mut new = Host::of(&fleet);
    assert!(new.releases(&fleet).unwrap()["web"].is_ok());
    assert_eq!(new.floor.main, host.floor.main);

    // Anything else than root named there is a fork.
    fleet.fork_from(&good.commit, &good.manifest);
    fleet.admit_edited(|draft| draft.manifest.issued = at(20));
    assert_eq!(refused(&fleet), Code::LogFork);
    // But for what no policy key signed, which anybody can serve.
    fleet.fork_from(&good.commit, &good.manifest);
    fleet.policy = SigningKey::generate();
    fleet.admit_edited(|draft| draft.manifest.issued = at(20));
    assert_eq!(refused(&fleet), Code::ManifestUnsigned);
}
