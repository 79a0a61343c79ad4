//! What root does about a stolen or replaced policy key, and what a clock that is off does to policy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::Fleet;
use jiff::{SignedDuration, Timestamp};
use policy::admit::Pass;
use state::{Code, Refusal};

/// A fleet with two admissions, and the refs of the first.
fn two_admissions() -> (Fleet, [(&'static str, String); 2]) {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let first = ["admitted", "fresh"].map(|name| (name, fleet.served(&["rev-parse", name]).ok()));
    release(&fleet, 2);
    (fleet, first)
}

fn release(fleet: &Fleet, digit: u8) {
    fleet.pin("web", digit);
    fleet.commit("Release web");
    fleet.push().ok();
}

/// One pass of policy, as if it were `later` than it is.
fn pass(fleet: &Fleet, later: SignedDuration) -> Result<Pass, Refusal> {
    fleet.pass(Timestamp::now() + later)
}

#[test]
fn what_a_stolen_policy_key_admitted_gives_way_to_the_anchor() {
    let (fleet, _) = two_admissions();
    let (anchor, manifest) = fleet.anchor(1000);
    // What the thief admits is in form: only root can tell it from the rest.
    release(&fleet, 3);
    assert_eq!(fleet.sequence(), 3);
    fleet.replace_policy_key(2, &anchor);
    fleet
        .policy(&["admit", "state.git", "--key", "keys/second"])
        .ok();
    assert_eq!(fleet.sequence(), 1000);
    assert_eq!(fleet.said("previous: "), manifest);
}

#[test]
fn a_manifest_written_down_for_a_key_that_was_replaced_is_not_signed_by_another() {
    let (fleet, first) = two_admissions();
    // As after a crash before the second admission was appended.
    for (name, commit) in &first {
        fleet
            .served(&["update-ref", &format!("refs/heads/{name}"), commit])
            .ok();
    }
    fleet.replace_policy_key(1, "");
    let before = fleet.refs();
    let outcome = fleet.policy(&["admit", "state.git", "--key", "keys/second"]);
    outcome.refused("SIGN_EQUIVOCATION");
    assert_eq!(fleet.refs(), before);
    // The way out, if no host has it.
    std::fs::remove_file(fleet.path("state.git/writ/signed")).unwrap();
    fleet
        .policy(&["admit", "state.git", "--key", "keys/second"])
        .ok();
    assert_eq!(fleet.sequence(), 2);
}

#[test]
fn a_clock_a_little_behind_the_last_admission_admits_at_its_time() {
    let (fleet, _) = two_admissions();
    fleet.without_hooks();
    release(&fleet, 3);
    let issued = fleet.said("issued: ");
    let admitted = pass(&fleet, SignedDuration::from_secs(-60))
        .unwrap()
        .admitted;
    assert_eq!(admitted.len(), 1);
    assert_eq!(fleet.said("issued: "), issued);
}

#[test]
fn a_clock_far_behind_the_last_admission_is_named_as_the_cause() {
    let (fleet, _) = two_admissions();
    let refused = pass(&fleet, SignedDuration::from_mins(-10)).err();
    assert_eq!(refused.map(|refusal| refusal.code), Some(Code::ClockBehind));
}

#[test]
fn freshness_is_renewed_when_it_is_an_hour_old_and_not_when_the_pass_is() {
    let (fleet, _) = two_admissions();
    let renewal = pass(&fleet, SignedDuration::from_mins(40)).unwrap().renewal;
    assert!(renewal <= SignedDuration::from_mins(20), "{renewal}");
    let renewal = pass(&fleet, SignedDuration::from_mins(61)).unwrap().renewal;
    assert_eq!(renewal, SignedDuration::from_hours(1));
}

#[test]
fn what_a_trust_file_says_cannot_reach_the_terminal_as_an_escape() {
    let fleet = Fleet::unserved("hosts: any\n");
    let text = fleet.git(&["show", "trust:1.yaml"]).stdout;
    let print = format!("SHA256:{}", "A".repeat(43));
    let ended = format!("ended: [ {{ key: \"{print}\", lastSequence: 1, reason: \"\\e[2J\" }} ]\n");
    std::fs::write(fleet.path("1.yaml"), text + &ended).unwrap();
    let shown = fleet.policy(&["trust", "check", "1.yaml"]).stdout;
    assert!(
        !shown.contains('\u{1b}') && shown.contains(r"\u{1b}[2J"),
        "{shown}"
    );
}

#[test]
fn a_ref_whose_name_is_no_text_is_refused_like_any_other() {
    use std::os::unix::ffi::OsStrExt as _;
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let refspec = std::ffi::OsStr::from_bytes(b"main:refs/tags/\xff");
    let push = common::command("git", &fleet.path("state"))
        .args(["push", "-q", "origin"])
        .arg(refspec)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&push.stderr).into_owned();
    assert!(
        !push.status.success() && said.contains("REF_REFUSED"),
        "{said}"
    );
}
