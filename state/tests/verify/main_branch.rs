//! Steps 9 to 11: who wrote `main`, and whether he may. A bad commit refuses what stands on it, not the intake.

use std::path::Path;

use state::digest::ObjectId;
use state::git::Kind;
use state::tree::Objects;
use state::{Code, commit};

use crate::support::{Fleet, Host, refused, web_refused};

/// A fleet of one admission, whose next commit `make` makes; it is admitted like any other.
fn second(make: impl FnOnce(&Fleet)) -> Fleet {
    let mut fleet = Fleet::with_admissions(1);
    fleet.pin("web", 2);
    make(&fleet);
    fleet.admit();
    fleet
}

#[test]
fn an_unsigned_commit_is_refused() {
    let fleet = second(|fleet| _ = fleet.commit_unsigned());
    assert_eq!(web_refused(&fleet), Code::AuthorUnsigned);
}

#[test]
fn an_unsigned_commit_below_a_signed_one_is_refused() {
    let fleet = second(|fleet| {
        fleet.write("notes.txt", "harmless");
        fleet.commit_unsigned();
        fleet.commit("alice", "signed, on top of it");
    });
    assert_eq!(web_refused(&fleet), Code::ParentUnsigned);
}

#[test]
fn what_stands_on_a_bad_commit_stays_refused_and_what_stands_below_does_not() {
    let mut fleet = second(|fleet| _ = fleet.commit_unsigned());
    let mut host = Host::of(&fleet);
    let intake = host.intake(&fleet).unwrap();
    assert_eq!(intake.unjudged().unwrap().code, Code::AuthorUnsigned);
    let judged = host.floor.main.clone().unwrap();
    assert_ne!(judged.commit, fleet.main());
    // The next passes begin at the last good commit, not at the floor's manifest, new admissions or not.
    assert_eq!(host.floor.sequence, 2);
    assert_eq!(
        host.releases(&fleet).unwrap()["web"]
            .as_ref()
            .unwrap_err()
            .code,
        Code::AuthorUnsigned
    );
    fleet.pin("web", 3);
    fleet.commit("alice", "signed, on top of it");
    fleet.admit();
    assert_eq!(
        host.releases(&fleet).unwrap()["web"]
            .as_ref()
            .unwrap_err()
            .code,
        Code::AuthorUnsigned
    );
    assert_eq!(host.floor.main, Some(judged));
}

#[test]
fn a_release_from_below_a_bad_commit_is_verified() {
    let mut fleet = Fleet::with_admissions(1);
    fleet.write("notes.txt", "harmless");
    fleet.commit_unsigned();
    fleet.write(
        "services/api/service.yaml",
        "source: { repository: https://git.example.org/api.git, branch: main }\nrun: { command: [ ./api ] }\n",
    );
    fleet.pin("api", 1);
    fleet.commit("alice", "another service");
    fleet.admit();
    let releases = Host::of(&fleet).releases(&fleet).unwrap();
    assert!(releases["web"].is_ok());
    assert_eq!(
        releases["api"].as_ref().unwrap_err().code,
        Code::ParentUnsigned
    );
}

#[test]
fn a_stranger_s_commit_is_refused() {
    let fleet = second(|fleet| _ = fleet.commit("eve", "by a stranger"));
    assert_eq!(web_refused(&fleet), Code::AuthorUnknown);
}

#[test]
fn a_commit_whose_content_was_changed_after_signing_is_refused() {
    let fleet = second(|fleet| {
        let signed = fleet.commit("alice", "two");
        rewrite(fleet, &signed, |raw| raw.replace("\ntwo\n", "\nthree\n"));
    });
    assert_eq!(web_refused(&fleet), Code::AuthorBadSignature);
}

#[test]
fn a_commit_with_a_second_signature_header_is_malformed() {
    let fleet = second(|fleet| {
        let signed = fleet.commit("alice", "two");
        rewrite(fleet, &signed, |raw| {
            raw.replace("gpgsig ", "gpgsig-sha256 junk\ngpgsig ")
        });
    });
    assert_eq!(web_refused(&fleet), Code::CommitMalformed);
}

#[test]
fn a_commit_that_is_not_the_one_policy_saw_is_refused() {
    let mut fleet = Fleet::with_admissions(1);
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit_edited(|draft| {
        draft.manifest.author.payload.0[0] ^= 1;
        let path = "releases/prod/web.yaml";
        let (prod, web) = ("prod".parse().unwrap(), "web".parse().unwrap());
        let mut release =
            state::release::Release::from_yaml(prod, web, &draft.files[path]).unwrap();
        release.origin = draft.manifest.author.clone();
        draft
            .files
            .insert(path.into(), release.to_yaml().into_bytes().into());
        draft.manifest.tree = state::tree::sha256_id(&draft.files);
    });
    assert_eq!(web_refused(&fleet), Code::PayloadMismatch);
}

#[test]
fn a_change_outside_of_its_author_s_paths_is_refused() {
    let fleet = second(|fleet| {
        fleet.write("services/web/service.yaml", "source: { repository: https://evil.example.org/web.git, branch: main }\nrun: { command: [ ./web ] }\n");
        fleet.commit("ci", "by CI, which may only pin");
    });
    assert_eq!(web_refused(&fleet), Code::PathNotAllowed);
}

#[test]
fn a_change_of_more_than_its_author_s_fields_is_refused() {
    let fleet = second(|fleet| {
        let text = format!("source: {{ commit: \"{}\" }}\nkeep: 9\n", ObjectId([2; 20]));
        fleet.write("environments/prod/web.yaml", &text);
        fleet.commit("ci", "a pin and something else");
    });
    assert_eq!(web_refused(&fleet), Code::PathNotAllowed);
}

#[test]
fn a_change_of_the_rules_needs_the_right_to() {
    let more = |fleet: &Fleet| {
        let first = fleet.trust_file(1, None, "");
        let hash = state::digest::Sha256Hash::of(first.as_bytes());
        let second = fleet
            .trust_file(2, Some(hash), "")
            .replace("may: [ author, rules, hold ]", "may: [ author, hold ]");
        let both: &[&str] = &["root1", "root2"];
        fleet.publish_trust(&[(1, &first, both), (2, &second, both)]);
    };
    let mut fleet = Fleet::with_admissions(1);
    more(&fleet);
    fleet.write(
        "environments/prod/environment.yaml",
        "hosts: any\ncooldown: 1h\n",
    );
    fleet.commit("alice", "other rules");
    fleet.admit();
    let refusal = Host::of(&fleet).releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::RulesNotAllowed, "{refusal}");
}

#[test]
fn a_change_in_between_that_was_taken_back_still_counts() {
    let fleet = second(|fleet| {
        fleet.write("hidden.txt", "not CI's");
        fleet.commit("ci", "out of scope");
        std::fs::remove_file(fleet.path("state/hidden.txt")).unwrap();
        fleet.commit("alice", "taken back");
    });
    assert_eq!(web_refused(&fleet), Code::PathNotAllowed);
}

#[test]
fn a_merge_passes_if_its_signer_may_make_the_whole_difference() {
    let branch = |fleet: &Fleet, signer: &str| {
        fleet.git_as("alice", &["checkout", "-q", "-b", "side"]);
        fleet.write("notes.txt", "from the side");
        fleet.commit_unsigned();
        fleet.git_as("alice", &["checkout", "-q", "main"]);
        fleet.git_as(
            signer,
            &["merge", "-q", "-S", "--no-ff", "--no-edit", "side"],
        );
    };
    let mut fleet = Fleet::with_admissions(1);
    branch(&fleet, "alice");
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit();
    assert!(Host::of(&fleet).releases(&fleet).unwrap()["web"].is_ok());

    let mut fleet = Fleet::with_admissions(1);
    branch(&fleet, "ci");
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit();
    assert_eq!(web_refused(&fleet), Code::PathNotAllowed);
}

#[test]
fn a_tree_of_another_fleet_is_refused() {
    let fleet = second(|fleet| {
        let domain = "ab".repeat(32);
        fleet.write(
            "repository.yaml",
            &format!("format: 1\nname: acme\ndomain: {domain}\n"),
        );
        fleet.commit("alice", "moved to another fleet");
    });
    assert_eq!(web_refused(&fleet), Code::WrongDomain);
}

#[test]
fn a_wrong_tree_trailer_is_refused_and_a_right_one_passes() {
    let fleet = second(|fleet| {
        let message = format!("two\n\nTree-SHA256: {}", "0".repeat(64));
        fleet.commit("alice", &message);
    });
    assert_eq!(web_refused(&fleet), Code::TrailerMismatch);

    let mut fleet = Fleet::with_admissions(1);
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    let tree = fleet.draft().manifest.author_tree;
    fleet.git_as(
        "alice",
        &[
            "commit",
            "-q",
            "-S",
            "--amend",
            "-m",
            &format!("two\n\nTree-SHA256: {tree}"),
        ],
    );
    fleet.admit();
    assert!(Host::of(&fleet).releases(&fleet).unwrap()["web"].is_ok());
}

#[test]
fn a_symlink_and_a_submodule_end_the_intake() {
    let linked = |fleet: &Fleet| {
        std::os::unix::fs::symlink("/etc/passwd", fleet.path("state/link")).unwrap();
        fleet.commit("alice", "a link");
    };
    assert_eq!(tree_refused(linked), Code::SymlinkRefused);
    let submodule = |fleet: &Fleet| {
        let entry = format!("160000,{},vendored", ObjectId([3; 20]));
        fleet.git_as("alice", &["update-index", "--add", "--cacheinfo", &entry]);
        fleet.git_as("alice", &["commit", "-q", "-S", "-m", "a submodule"]);
    };
    assert_eq!(tree_refused(submodule), Code::SubmoduleRefused);
}

/// The code with which a host refuses an admission of the commit that `make` makes, whose tree policy did not read.
fn tree_refused(make: impl FnOnce(&Fleet)) -> Code {
    let mut fleet = Fleet::with_admissions(1);
    let mut draft = fleet.draft();
    make(&fleet);
    let main = fleet.main();
    draft.manifest.author.commit = main;
    draft.parents[1] = main;
    fleet.admit_drafted(draft);
    refused(&fleet)
}

#[test]
fn a_tampered_object_is_corrupt_and_a_removed_one_is_missing() {
    let fleet = Fleet::with_admissions(1);
    let blob = fleet.git_as("alice", &["rev-parse", "main:environments/prod/web.yaml"]);
    let file = fleet
        .path("state/.git/objects")
        .join(&blob[..2])
        .join(&blob[2..]);
    let other = fleet
        .git()
        .write(Kind::Blob, b"source: { commit: \"x\" }\n")
        .unwrap()
        .to_string();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(refused(&fleet), Code::ObjectMissing);
    std::fs::copy(
        fleet
            .path("state/.git/objects")
            .join(Path::new(&other[..2]))
            .join(&other[2..]),
        &file,
    )
    .unwrap();
    assert_eq!(refused(&fleet), Code::ObjectCorrupt);
}

#[test]
fn an_author_s_key_that_was_ended_counts_up_to_its_last_sequence() {
    let mut fleet = Fleet::with_admissions(1);
    fleet.pin("web", 2);
    fleet.commit("ci", "by CI");
    fleet.admit();
    fleet.end_ci(2);
    assert!(Host::of(&fleet).releases(&fleet).unwrap()["web"].is_ok());
    fleet.end_ci(1);
    assert_eq!(web_refused(&fleet), Code::KeyEnded);
}

/// Replaces the commit at the tip of `main` by one whose raw text is edited.
fn rewrite(fleet: &Fleet, id: &ObjectId, edit: impl FnOnce(String) -> String) {
    let git = fleet.git();
    let raw = git.object(Kind::Commit, id, commit::MAX_BYTES).unwrap();
    let raw = edit(String::from_utf8(raw).unwrap());
    fleet.move_branch("main", &git.write(Kind::Commit, raw.as_bytes()).unwrap());
}
