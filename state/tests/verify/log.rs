//! Steps 5 to 7: the log of admissions.

use std::time::Duration;

use state::Code;
use state::admitted::STATEMENT;
use state::digest::{Domain, ObjectId, Sha256Hash, TreeId};
use state::git::Git;
use state::git::fetch::{Fetcher, Request};
use state::key::SigningKey;
use state::manifest::Hold;
use state::sshsig::Namespace;
use state::tree;
use state::verify::{self, Entry, Stage, Tips};

use crate::support::{Draft, Fleet, Host, at, identity, refused};

#[test]
fn three_admissions_are_taken_in_and_raise_the_floor() {
    let fleet = Fleet::with_admissions(3);
    let mut host = Host::of(&fleet);
    let intake = host.intake(&fleet).unwrap();
    assert_eq!(intake.manifest().sequence, 3);
    assert_eq!(intake.unjudged(), None);
    assert_eq!(host.floor.sequence, 3);
    assert_eq!(host.floor.manifest, intake.manifest().hash());
    assert_eq!(host.floor.main.as_ref().unwrap().commit, fleet.main());
    assert!(host.persisted > 0);
    // The same again: the floor is where it was, and there is nothing to write.
    let floor = host.floor.clone();
    host.persisted = 0;
    host.intake(&fleet).unwrap();
    assert_eq!((host.floor, host.persisted), (floor, 0));
}

#[test]
fn a_host_takes_in_what_it_fetched_and_keeps_what_passed() {
    let fleet = Fleet::with_admissions(2);
    let mirror = fleet.path("mirror.git");
    let request = Request {
        url: fleet.path("state").display().to_string(),
        token: None,
        ca: None,
        refs: Tips::refs(),
        wanted: None,
        into: mirror.clone(),
        max_bytes: 1 << 20,
        deadline: Duration::from_secs(20),
    };
    let fetched = Fetcher::default().fetch(&request).unwrap();
    assert_eq!(fetched.refs.len(), 3);
    let git = Git::open(&mirror).unwrap();
    let tips = Tips::read(&git, Stage::Incoming).unwrap();
    assert_eq!(tips, fleet.tips());
    assert_eq!(
        Tips::read(&git, Stage::Verified).unwrap_err().code,
        Code::RefMissing
    );
    let mut floor = Host::of(&fleet).floor;
    let intake = verify::intake(&git, &tips, &mut floor, at(30), &mut |_| Ok(())).unwrap();
    tips.keep(&git).unwrap();
    tips.keep(&git).unwrap();
    assert_eq!(Tips::read(&git, Stage::Verified).unwrap(), tips);
    let releases = verify::releases(&git, &intake, &identity(), &|_, _, _| false).unwrap();
    assert!(releases["web"].is_ok());
}

#[test]
fn a_host_goes_on_from_its_floor() {
    let mut fleet = Fleet::with_admissions(2);
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    fleet.pin("web", 9);
    fleet.commit("ci", "by CI");
    fleet.admit();
    assert_eq!(host.intake(&fleet).unwrap().manifest().sequence, 3);
    assert_eq!(host.floor.sequence, 3);
}

#[test]
fn a_log_that_was_rolled_back_is_refused() {
    let mut fleet = Fleet::with_admissions(2);
    let tips = fleet.tips();
    let tip = Entry::read(&fleet.git(), &tips.admitted).unwrap();
    let before = tip.previous(&fleet.git()).unwrap().unwrap();
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    fleet.fork_from(&before.commit, &before.manifest);
    assert_ne!(fleet.tips(), tips);
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::LogRollback);
}

#[test]
fn a_log_that_forked_is_refused_whether_it_is_as_long_or_longer() {
    let mut fleet = Fleet::with_admissions(2);
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    let tip = Entry::read(&fleet.git(), &fleet.tips().admitted).unwrap();
    let before = tip.previous(&fleet.git()).unwrap().unwrap();
    fleet.fork_from(&before.commit, &before.manifest);
    fleet.pin("web", 77);
    fleet.commit("alice", "another second version");
    fleet.admit();
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::LogFork);
    fleet.pin("web", 78);
    fleet.commit("alice", "and a third");
    fleet.admit();
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::LogFork);
    assert_eq!(host.floor.sequence, 2);
}

#[test]
fn the_accepted_manifest_said_once_more_is_no_admission() {
    for sequence in [1, 2] {
        let mut fleet = Fleet::with_admissions(sequence);
        let mut host = Host::of(&fleet);
        host.intake(&fleet).unwrap();
        let tip = Entry::read(&fleet.git(), &fleet.tips().admitted).unwrap();
        fleet.admit_edited(|draft| draft.manifest = tip.manifest);
        assert_eq!(host.intake(&fleet).unwrap_err().code, Code::SequenceGap);
    }
}

#[test]
fn a_fork_that_policy_did_not_sign_is_no_alarm() {
    let mut fleet = Fleet::with_admissions(2);
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    let tip = Entry::read(&fleet.git(), &fleet.tips().admitted).unwrap();
    let before = tip.previous(&fleet.git()).unwrap().unwrap();
    fleet.fork_from(&before.commit, &before.manifest);
    fleet.pin("web", 77);
    fleet.commit("alice", "another second version");
    let other_fleet = |draft: &mut Draft| draft.manifest.domain = Domain([7; 32]);
    fleet.admit_edited(other_fleet);
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::WrongDomain);
    fleet.fork_from(&before.commit, &before.manifest);
    fleet.policy = SigningKey::generate();
    fleet.admit();
    assert_eq!(
        host.intake(&fleet).unwrap_err().code,
        Code::ManifestUnsigned
    );
}

#[test]
fn a_log_that_does_not_begin_with_an_empty_tree_is_refused() {
    let fleet = Fleet::new();
    fleet.move_branch("admitted", &fleet.main());
    fleet.freshen(&fleet.last(), at(0));
    assert_eq!(refused(&fleet), Code::ManifestMalformed);
}

#[test]
fn a_log_without_admissions_has_nothing_to_offer() {
    let mut fleet = Fleet::new();
    let root = fleet.draft().parents[0];
    fleet.move_branch("admitted", &root);
    fleet.freshen(&fleet.last(), at(0));
    assert_eq!(refused(&fleet), Code::RefMissing);
    fleet.admit();
}

/// The code with which a host at sequence 1 refuses the second manifest, edited.
fn second_edited(edit: impl FnOnce(&mut Draft)) -> Code {
    let mut fleet = Fleet::with_admissions(1);
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit_edited(edit);
    let refusal = host.intake(&fleet).unwrap_err();
    assert_eq!(host.floor.sequence, 1, "{refusal}");
    refusal.code
}

#[test]
fn a_manifest_of_another_fleet_is_refused() {
    assert_eq!(
        second_edited(|draft| draft.manifest.domain.0[0] ^= 1),
        Code::WrongDomain
    );
}

#[test]
fn a_gap_in_the_sequence_is_refused() {
    assert_eq!(
        second_edited(|draft| draft.manifest.sequence = 3),
        Code::SequenceGap
    );
}

#[test]
fn a_manifest_that_names_another_predecessor_is_refused() {
    assert_eq!(
        second_edited(|draft| draft.manifest.previous = Sha256Hash::of(b"")),
        Code::ChainBroken
    );
}

#[test]
fn a_manifest_under_an_unknown_trust_is_refused() {
    assert_eq!(
        second_edited(|draft| draft.manifest.trust.version = 2),
        Code::TrustMismatch
    );
    assert_eq!(
        second_edited(|draft| draft.manifest.trust.sha256 = Sha256Hash::of(b"")),
        Code::TrustMismatch
    );
}

#[test]
fn a_manifest_signed_for_another_purpose_is_unsigned() {
    assert_eq!(
        second_edited(|draft| draft.namespace = Namespace::Freshness),
        Code::ManifestUnsigned
    );
}

#[test]
fn a_manifest_by_a_stranger_is_unsigned() {
    let mut fleet = Fleet::with_admissions(1);
    fleet.policy = state::key::SigningKey::generate();
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit();
    assert_eq!(refused(&fleet), Code::ManifestUnsigned);
}

#[test]
fn a_manifest_before_its_predecessor_or_in_the_future_is_refused() {
    assert_eq!(
        second_edited(|draft| draft.manifest.issued = at(0)),
        Code::TimeReversed
    );
    assert_eq!(
        second_edited(|draft| draft.manifest.issued = at(40)),
        Code::IssuedInFuture
    );
}

#[test]
fn a_manifest_without_its_exact_form_is_malformed() {
    let fleet = Fleet::with_admissions(1);
    let root = fleet.commit_files(&Default::default(), &[fleet.tips().admitted]);
    fleet.move_branch("admitted", &root);
    assert_eq!(refused(&fleet), Code::ManifestMalformed);
    let code = second_edited(|draft| {
        let hold = |reason: &str| Hold {
            environment: "prod".parse().unwrap(),
            subject: "web".parse().unwrap(),
            reason: reason.into(),
        };
        draft.manifest.holds = vec![hold("lower case")];
    });
    assert_eq!(code, Code::ManifestMalformed);
}

#[test]
fn a_rewritten_main_is_no_descendant() {
    let mut fleet = Fleet::with_admissions(2);
    fleet.git_as("alice", &["reset", "-q", "--hard", "HEAD~1"]);
    fleet.pin("web", 3);
    fleet.commit("alice", "instead of two");
    fleet.admit();
    assert_eq!(refused(&fleet), Code::NotDescendant);
}

#[test]
fn a_main_that_descends_over_a_second_parent_only_is_no_descendant() {
    let mut fleet = Fleet::with_admissions(2);
    fleet.git_as("alice", &["checkout", "-q", "--detach", "HEAD~1"]);
    fleet.git_as(
        "alice",
        &["commit", "-q", "-S", "--allow-empty", "-m", "beside"],
    );
    fleet.git_as("alice", &["merge", "-q", "-S", "--no-edit", "main"]);
    fleet.git_as("alice", &["branch", "-q", "-f", "main", "HEAD"]);
    fleet.admit();
    assert_eq!(refused(&fleet), Code::NotDescendant);
}

#[test]
fn trees_other_than_the_signed_ones_are_refused() {
    assert_eq!(
        second_edited(|draft| draft.manifest.tree = TreeId([0; 32])),
        Code::TreeMismatch
    );
    assert_eq!(
        second_edited(|draft| draft.manifest.author_tree = TreeId([0; 32])),
        Code::TreeMismatch
    );
    let smuggled = |draft: &mut Draft| {
        draft
            .smuggled
            .insert("releases/prod/evil.yaml".into(), b"evil"[..].into());
    };
    assert_eq!(second_edited(smuggled), Code::TreeMismatch);
}

#[test]
fn an_accepted_manifest_beside_other_files_is_refused() {
    let mut fleet = Fleet::with_admissions(2);
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    let git = fleet.git();
    let second = Entry::read(&git, &fleet.tips().admitted).unwrap();
    let first = second.previous(&git).unwrap().unwrap();
    // The newest manifest with the releases of the first admission: each of them was signed for, once.
    let limits = fleet.newest_trust().limits;
    let mut files = tree::read(&git, &first.tree, &limits).unwrap().files;
    let newest = tree::read(&git, &second.tree, &limits).unwrap().files;
    for name in STATEMENT {
        files.insert(name.to_owned(), newest[name].clone());
    }
    let forged = fleet.commit_files(&files, &second.parents);
    fleet.move_branch("admitted", &forged);
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::TreeMismatch);
    // Nor may anything be built upon it.
    fleet.pin("web", 3);
    fleet.commit("alice", "three");
    fleet.admit_edited(|draft| draft.parents[0] = forged);
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::TreeMismatch);
}

#[test]
fn a_file_without_a_place_in_an_admitted_tree_is_refused() {
    let code = second_edited(|draft| {
        draft
            .files
            .insert("run-me.sh".into(), b"#!/bin/sh"[..].into());
        draft.manifest.tree = state::tree::sha256_id(&draft.files);
    });
    assert_eq!(code, Code::ChangeMismatch);
}

#[test]
fn change_lines_that_are_not_the_difference_are_refused() {
    assert_eq!(
        second_edited(|draft| draft.manifest.changes.clear()),
        Code::ChangeMismatch
    );
    assert_eq!(
        second_edited(|draft| draft.manifest.changes[0].from = None),
        Code::ChangeMismatch
    );
    let unmade = |draft: &mut Draft| {
        let mut change = draft.manifest.changes[0].clone();
        change.environment = "dev".parse().unwrap();
        draft.manifest.changes.insert(0, change);
    };
    assert_eq!(second_edited(unmade), Code::ChangeMismatch);
}

#[test]
fn an_unchanged_release_with_other_bytes_is_refused() {
    let code = second_edited(|draft| {
        let author = draft.manifest.author.clone();
        let path = "releases/prod/environment.yaml";
        let prod = || "prod".parse().unwrap();
        let mut rules = state::release::Rules::from_yaml(prod(), &draft.files[path]).unwrap();
        rules.origin = author;
        draft
            .files
            .insert(path.into(), rules.to_yaml().into_bytes().into());
        draft.manifest.tree = state::tree::sha256_id(&draft.files);
    });
    assert_eq!(code, Code::ChangeMismatch);
}

#[test]
fn a_changed_release_from_another_commit_is_refused() {
    let code = second_edited(|draft| {
        let path = "releases/prod/web.yaml";
        let (prod, web) = ("prod".parse().unwrap(), "web".parse().unwrap());
        let mut release =
            state::release::Release::from_yaml(prod, web, &draft.files[path]).unwrap();
        release.origin.commit = ObjectId([9; 20]);
        draft
            .files
            .insert(path.into(), release.to_yaml().into_bytes().into());
        draft.manifest.tree = state::tree::sha256_id(&draft.files);
    });
    assert_eq!(code, Code::OriginMismatch);
}

#[test]
fn an_admission_that_is_not_a_child_of_its_author_is_refused() {
    let code = second_edited(|draft| draft.parents.truncate(1));
    assert_eq!(code, Code::OriginMismatch);
}

#[test]
fn the_floor_keeps_what_passed_before_the_first_refusal() {
    let mut fleet = Fleet::with_admissions(2);
    fleet.pin("web", 3);
    fleet.commit("alice", "three");
    fleet.admit_edited(|draft| draft.manifest.changes.clear());
    let mut host = Host::of(&fleet);
    assert_eq!(host.intake(&fleet).unwrap_err().code, Code::ChangeMismatch);
    assert_eq!(host.floor.sequence, 2);
    assert!(host.persisted > 0);
    // What was not looked at yet is not believed later either.
    assert_eq!(host.floor.main, None);
}

#[test]
fn a_clock_behind_what_was_signed_is_refused() {
    let fleet = Fleet::with_admissions(2);
    let mut host = Host::of(&fleet);
    host.intake(&fleet).unwrap();
    assert!(
        host.intake_at(&fleet, at(0)).is_ok(),
        "five minutes of skew are allowed"
    );
    let refusal = host.intake_at(&fleet, at(-60)).unwrap_err();
    assert_eq!(refusal.code, Code::ClockBehind);
}
