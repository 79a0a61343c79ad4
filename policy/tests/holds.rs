//! What is held stays as it is until the hold is lifted, by whoever made it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Fleet, Outcome};

/// Pins `web` to a commit of 40 times `digit`, held for `reason`.
fn pin_held(fleet: &Fleet, digit: u8, reason: &str) {
    let commit = digit.to_string().repeat(40);
    let text = format!("source: {{ commit: \"{commit}\" }}\nhold: \"{reason}\"\n");
    fleet.write("environments/dev/web.yaml", &text);
}

#[track_caller]
fn holds(fleet: &Fleet) -> Vec<String> {
    let manifest = fleet.admitted("manifest").ok();
    let lines = manifest.lines();
    let holds = lines.filter_map(|line| line.strip_prefix("hold: "));
    holds.map(str::to_owned).collect()
}

#[track_caller]
fn assert_waits(outcome: &Outcome, text: &str) {
    assert!(
        outcome.says("wait") && outcome.says("HELD") && outcome.says(text),
        "{outcome:?}"
    );
}

#[test]
fn an_author_holds_a_service_and_lifts_the_hold() {
    let fleet = Fleet::new("hosts: any\nmaxRemovals: 9\n", &["web", "api"]);
    pin_held(&fleet, 2, "too \\e[2J slow");
    fleet.pin("api", 2);
    fleet.commit("Release both, hold web");
    fleet.git(&["fetch", "-q"]).ok();
    let check = fleet.author(&["check", "HEAD"]);
    assert_eq!(check.code, 75);
    assert_waits(&check, r"held by its author: too \u{1b}[2J slow");
    let pushed = fleet.push();
    assert_eq!(pushed.code, 0, "{pushed:?}");
    assert_waits(&pushed, "held by its author");
    assert_eq!(holds(&fleet), ["dev web AUTHOR"]);
    assert!(fleet.admits("web", 1));
    assert!(fleet.admits("api", 2));
    let pending = fleet.policy(&["pending", "state.git"]);
    assert_eq!(pending.code, 75);
    assert!(
        pending.says(r"held   dev  web  AUTHOR: too \u{1b}[2J slow"),
        "{pending:?}"
    );

    // A hold alone is an admission, and so is its end.
    let before = fleet.sequence();
    pin_held(&fleet, 1, "still too slow");
    fleet.commit("Take the release back, for another reason");
    fleet.push().ok();
    assert_eq!(fleet.sequence(), before + 1, "hosts tell the reason");
    let before = before + 1;
    fleet.pin("web", 1);
    fleet.commit("Lift the hold");
    fleet.push().ok();
    assert_eq!((fleet.sequence(), holds(&fleet).len()), (before + 1, 0));
    pin_held(&fleet, 1, "once more");
    fleet.commit("Hold it again");
    fleet.push().ok();
    assert_eq!((fleet.sequence(), holds(&fleet).len()), (before + 2, 1));

    // Lifting it, the same commit may release.
    fleet.pin("web", 3);
    fleet.commit("Lift the hold and release");
    fleet.push().ok();
    assert!(fleet.admits("web", 3));
    assert_eq!(holds(&fleet), [""; 0]);
    let log = fleet.policy(&["log", "state.git"]).ok();
    assert!(log.contains("dev  web  held: AUTHOR"), "{log}");
    assert!(log.contains("dev  web  no longer held"), "{log}");
}

#[test]
fn policy_holds_a_service_across_admissions_until_it_lifts_the_hold() {
    let fleet = Fleet::new("hosts: any\n", &["web", "api"]);
    let hold = |args: &[&str]| {
        let all = [&["hold", "--repository", "state.git"], args].concat();
        fleet.policy(&all)
    };
    let held = hold(&["dev/web", "--reason", "BAD_BUILD"]).ok();
    assert!(held.contains("dev/web is held: BAD_BUILD"), "{held}");
    let sequence = fleet.sequence();
    hold(&["dev/web", "--reason", "BAD_BUILD"]).ok();
    assert_eq!(fleet.sequence(), sequence, "it was held already");
    fleet.pin("web", 2);
    fleet.pin("api", 2);
    fleet.commit("Release both");
    assert_waits(&fleet.push(), "held by policy: BAD_BUILD");
    assert_eq!(holds(&fleet), ["dev web BAD_BUILD"]);
    assert!(fleet.admits("web", 1));
    let json = fleet.policy(&["log", "--json", "state.git"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["holds"][0]["reason"], "BAD_BUILD");
    // Who replays comes to the same verdicts, and is told what was policy's own decision.
    let replay = || fleet.policy(&["replay", "--repository", "state.git"]).ok();
    let replayed = replay();
    assert!(
        replayed.contains("dev  web  by policy's own word held: BAD_BUILD"),
        "{replayed}"
    );

    // An author's hold of the same service neither hides policy's nor ends with it.
    pin_held(&fleet, 2, "me too");
    fleet.commit("Hold it as well");
    fleet.push().ok();
    assert_eq!(holds(&fleet), ["dev web BAD_BUILD"]);
    let lifted = hold(&["dev/web", "--lift"]).ok();
    assert!(lifted.contains("dev/web is held: AUTHOR"), "{lifted}");
    let replayed = replay();
    assert!(
        replayed.contains("dev  web  by policy's own word no longer held"),
        "{replayed}"
    );
    fleet.pin("web", 2);
    fleet.commit("Lift it");
    fleet.push().ok();
    assert!(fleet.admits("web", 2));
    let lifted = hold(&["dev/web", "--lift"]).ok();
    assert!(lifted.contains("dev/web is not held"), "{lifted}");

    for wrong in [
        &["dev/web", "--reason", "AUTHOR"][..],
        &["dev/web", "--reason", "bad build"],
        &["dev/web"],
        &["dev/nobody", "--reason", "BAD_BUILD"],
        &["web", "--reason", "BAD_BUILD"],
    ] {
        assert_eq!(hold(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(holds(&fleet), [""; 0]);
}

#[test]
fn policy_holds_the_rules_of_an_environment() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    let args = ["hold", "dev/environment", "--reason", "AUDIT"];
    fleet
        .policy(&[&args[..], &["--repository", "state.git"]].concat())
        .ok();
    let rules = "hosts: any\ncooldown: 1h\n";
    fleet.write("environments/dev/environment.yaml", rules);
    fleet.commit("New rules");
    assert_waits(&fleet.push(), "held by policy: AUDIT");
}

#[test]
fn policy_can_hold_while_main_is_refused() {
    let fleet = Fleet::new("hosts: any\n", &["web"]);
    // As a forge with its own key would have it.
    let forged = fleet.git(&[
        "-c",
        "commit.gpgsign=false",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "x",
    ]);
    forged.ok();
    fleet.served(&["fetch", "-q", "../state", "main:main"]).ok();
    let held = fleet.policy(&[
        "hold",
        "dev/web",
        "--reason",
        "BAD_BUILD",
        "--repository",
        "state.git",
    ]);
    assert!(held.code == 0 && held.says("AUTHOR_UNSIGNED"), "{held:?}");
    assert_eq!(holds(&fleet), ["dev web BAD_BUILD"]);
}
