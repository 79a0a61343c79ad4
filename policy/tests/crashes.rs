//! What a crash, a thief or a restored backup leaves in the repository is completed, replaced or refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::Fleet;

/// A fleet with two admissions, and the refs as they were after the first.
fn two_admissions() -> (Fleet, [String; 2]) {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let first = ["admitted", "fresh"].map(|branch| fleet.served(&["rev-parse", branch]).ok());
    fleet.pin("web", 2);
    fleet.commit("Release web");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 2);
    (fleet, first)
}

fn set_back(fleet: &Fleet, [admitted, fresh]: &[String; 2]) {
    fleet
        .served(&["update-ref", "refs/heads/admitted", admitted])
        .ok();
    fleet
        .served(&["update-ref", "refs/heads/fresh", fresh])
        .ok();
}

#[test]
fn a_crash_between_signing_and_appending_is_completed_with_the_same_bytes() {
    let (fleet, first) = two_admissions();
    let second = fleet.served(&["rev-parse", "admitted"]).ok();
    // As after a crash: the manifest is written down, the branches have not moved.
    set_back(&fleet, &first);
    let written = std::fs::read_to_string(fleet.path("state.git/writ/signed")).unwrap();
    // `main` moved meanwhile; what was written down comes first all the same.
    std::fs::rename(fleet.path("keys/policy"), fleet.path("keys/elsewhere")).unwrap();
    fleet.pin("web", 3);
    fleet.commit("Release web again");
    fleet.push().ok();
    fleet
        .policy(&["admit", "state.git", "--key", "keys/elsewhere"])
        .ok();
    assert_eq!(fleet.sequence(), 3);
    let completed = fleet.served(&["rev-parse", "admitted~1"]).ok();
    assert_eq!(completed, second, "the very same commit");
    assert_eq!(
        fleet.served(&["show", "admitted~1:manifest"]).stdout,
        written
    );
}

#[test]
fn a_log_that_was_set_back_is_not_signed_anew() {
    let (fleet, first) = two_admissions();
    fleet.pin("web", 3);
    fleet.commit("Release web again");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 3);
    let third = fleet.served(&["rev-parse", "admitted"]).ok();
    set_back(&fleet, &first);
    let outcome = fleet.policy(&["admit", "state.git"]);
    assert!(outcome.says("LOG_ROLLBACK"), "{outcome:?}");
    assert_eq!(fleet.served(&["rev-parse", "admitted"]).ok(), third);
    // Nor is it where policy has forgotten what it saw.
    set_back(&fleet, &first);
    std::fs::remove_file(fleet.path("state.git/writ/checkpoint")).unwrap();
    let before = fleet.refs();
    fleet
        .policy(&["admit", "state.git"])
        .refused("SIGN_EQUIVOCATION");
    assert_eq!(fleet.refs(), before);
}

#[test]
fn freshness_alone_tells_what_was_signed() {
    let (fleet, [admitted, fresh]) = two_admissions();
    let second = fleet.served(&["rev-parse", "admitted"]).ok();
    // All is lost but the statement, and `main` went on: another manifest 2 is what would be signed.
    fleet.without_hooks();
    fleet.pin("web", 3);
    fleet.commit("Release web again");
    fleet.push().ok();
    let admit = |fleet: &Fleet| fleet.policy(&["admit", "state.git"]);
    let lose = |fleet: &Fleet| {
        let set_back = ["update-ref", "refs/heads/admitted", &admitted];
        fleet.served(&set_back).ok();
        for name in ["checkpoint", "signed", "evidence"] {
            let _ = std::fs::remove_file(fleet.path("state.git/writ").join(name));
        }
    };
    lose(&fleet);
    let before = fleet.refs();
    let outcome = admit(&fleet).refused("SIGN_EQUIVOCATION");
    assert!(outcome.says("manifest 2 "), "{outcome:?}");
    let command = "fetch MIRROR +refs/verified/admitted:refs/heads/admitted";
    assert!(outcome.says(command), "{outcome:?}");
    assert_eq!(fleet.refs(), before, "nor is the statement replaced");
    // Nothing is new at all: it is not replaced then either.
    let main = fleet.served(&["rev-parse", "main"]).ok();
    fleet
        .served(&["update-ref", "refs/heads/main", "main~1"])
        .ok();
    lose(&fleet);
    admit(&fleet).refused("SIGN_EQUIVOCATION");
    fleet.served(&["update-ref", "refs/heads/main", &main]).ok();
    // A host has it.
    fleet
        .served(&["update-ref", "refs/heads/admitted", &second])
        .ok();
    admit(&fleet).ok();
    assert_eq!(fleet.sequence(), 3);
    assert_eq!(fleet.served(&["rev-parse", "admitted~1"]).ok(), second);
    // An older word is none.
    fleet
        .served(&["update-ref", "refs/heads/fresh", &fresh])
        .ok();
    admit(&fleet).ok();
}

#[test]
fn junk_on_admitted_is_replaced_and_reported() {
    let (fleet, _) = two_admissions();
    let good = fleet.served(&["rev-parse", "admitted"]).ok();
    let tree = fleet.served(&["rev-parse", "main^{tree}"]).ok();
    let junk = fleet
        .git(&["commit-tree", "-m", "Junk", "-p", "main", &tree])
        .ok();
    let junk_tree = fleet.served(&["rev-parse", "main^{tree}"]).ok();
    assert_eq!(tree, junk_tree);
    let raw = format!(
        "tree {tree}\nparent {good}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nJunk\n"
    );
    std::fs::write(fleet.path("raw"), raw).unwrap();
    let planted = fleet
        .served(&["hash-object", "-t", "commit", "-w", "../raw"])
        .ok();
    assert_ne!(junk, planted);
    fleet
        .served(&["update-ref", "refs/heads/admitted", &planted])
        .ok();
    let outcome = fleet.policy(&["admit", "state.git"]);
    assert!(outcome.says("replaced"), "{outcome:?}");
    assert_eq!(fleet.served(&["rev-parse", "admitted"]).ok(), good);
    fleet.pin("web", 3);
    fleet.commit("Release web again");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 3);
}

#[test]
fn junk_where_nothing_was_admitted_gives_way_to_an_empty_log() {
    let fleet = Fleet::new("hosts: any\n", &[]);
    let first = fleet.served(&["rev-parse", "main"]).ok();
    for branch in ["admitted", "fresh", "main"] {
        let name = format!("refs/heads/{branch}");
        fleet.served(&["update-ref", "-d", &name]).ok();
    }
    fleet
        .served(&["update-ref", "refs/heads/admitted", &first])
        .ok();
    for name in ["checkpoint", "signed", "evidence"] {
        std::fs::remove_file(fleet.path("state.git/writ").join(name)).unwrap();
    }
    let outcome = fleet.policy(&["admit", "state.git"]);
    assert!(outcome.says("replaced"), "{outcome:?}");
    let root = fleet.served(&["show", "--format=%T %P", "admitted"]).ok();
    assert_eq!(root, "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    assert_eq!(fleet.policy(&["admit", "state.git"]).ok(), "");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), 1);
}

#[test]
fn admitted_pointed_at_an_unrelated_history_or_deleted_is_put_back() {
    let (fleet, _) = two_admissions();
    let good = fleet.served(&["rev-parse", "admitted"]).ok();
    for damage in [
        ["update-ref", "refs/heads/admitted", "main"],
        ["update-ref", "-d", "refs/heads/admitted"],
    ] {
        fleet.served(&damage).ok();
        let outcome = fleet.policy(&["admit", "state.git"]);
        assert!(outcome.says("replaced"), "{outcome:?}");
        assert_eq!(fleet.served(&["rev-parse", "admitted"]).ok(), good);
    }
}

#[test]
fn a_checkpoint_changes_no_log() {
    let (fleet, _) = two_admissions();
    let path = fleet.path("state.git");
    let now = jiff::Timestamp::now();
    let repository = policy::repository::Repository::served(&path).unwrap();
    let quick = policy::log::read(&repository, now).unwrap();
    assert!(quick.verified().began_at().is_some());
    std::fs::remove_file(fleet.path("state.git/writ/checkpoint")).unwrap();
    let whole = policy::log::read(&repository, now).unwrap();
    assert_eq!(whole.verified().began_at(), None);
    assert_eq!(quick.known(), whole.known());
    assert_eq!(quick.admitted(), whole.admitted());
    assert_eq!(quick.link(), whole.link());
}

#[test]
fn a_signed_manifest_in_the_wrong_place_stops_policy() {
    let (fleet, first) = two_admissions();
    // The second admission's tree, signed as it is, on top of itself.
    let tree = fleet.served(&["rev-parse", "admitted^{tree}"]).ok();
    let second = fleet.served(&["rev-parse", "admitted"]).ok();
    let raw = format!(
        "tree {tree}\nparent {second}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nTwice\n"
    );
    std::fs::write(fleet.path("raw"), raw).unwrap();
    let twice = fleet
        .served(&["hash-object", "-t", "commit", "-w", "../raw"])
        .ok();
    fleet
        .served(&["update-ref", "refs/heads/admitted", &twice])
        .ok();
    fleet
        .policy(&["admit", "state.git"])
        .refused("POLICY_STATE_BAD");
    assert_ne!(first[0], twice);
}

#[test]
fn a_bad_tip_that_got_past_the_hook_is_refused_and_the_log_stays_fresh() {
    let (fleet, _) = two_admissions();
    let before = fleet.refs();
    fleet
        .git(&[
            "commit",
            "-q",
            "--allow-empty",
            "--no-gpg-sign",
            "-m",
            "Unsigned",
        ])
        .ok();
    fleet.without_hooks();
    fleet.push().ok();
    fleet.served(&["update-ref", "-d", "refs/heads/fresh"]).ok();
    fleet
        .policy(&["admit", "state.git"])
        .refused("AUTHOR_UNSIGNED");
    let after = fleet.refs();
    assert!(after.contains("refs/heads/fresh"), "{after}");
    assert_ne!(before, after);
    assert_eq!(fleet.sequence(), 2);
}
