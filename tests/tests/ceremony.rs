//! The ceremonies of docs/ceremonies.md, replayed with stock tools and real agents, and what stands behind their words:
//! keys on hardware, and the audits that tell when a ceremony is due.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use state::manifest::{Hold, Subject};
use tests::attack::forge::Forge;
use tests::attack::keys::Keys;
use tests::fleet::Fleet;
use tests::page;
use tests::program::{self, binary};
use tests::signers::{Hardware, SshAgent};
use tests::transcript::replay;

/// A fleet whose author is `carol`, with the security key `keys/carol`, as trust version 2 says.
fn fleet_of_carol(hardware: &Hardware, options: &[&str]) -> Fleet {
    let fleet = Fleet::new("hosts: any\n", &[]);
    hardware.make(&fleet, "carol", options);
    fleet.add_author("carol", &["author", "rules"]);
    fleet
}

#[test]
fn the_ceremonies_run_as_written() {
    let hardware = Hardware::new();
    replay(&page::read("docs/ceremonies.md"), Some(hardware.folder()));
}

#[test]
fn stock_tools_verify_what_the_security_key_in_software_signs() {
    let hardware = Hardware::new();
    let fleet = fleet_of_carol(&hardware, &[]);
    let public = std::fs::read_to_string(fleet.path("keys/carol.pub")).unwrap();
    std::fs::write(fleet.path("allowed"), format!("carol {public}")).unwrap();
    std::fs::write(fleet.path("statement"), "writ: trust/1\n").unwrap();
    let sign = [
        "-q",
        "-Y",
        "sign",
        "-n",
        "trust@writ",
        "-f",
        "keys/carol",
        "statement",
    ];
    program::run(hardware.command("ssh-keygen", &fleet.path("")).args(sign)).ok();
    let verify = |namespace: &str| {
        let script = format!(
            "ssh-keygen -Y verify -f allowed -I carol -n {namespace} -s statement.sig < statement"
        );
        let mut shell = program::command("sh", &fleet.path(""));
        program::run(shell.args(["-c", &script]).current_dir(fleet.path("")))
    };
    verify("trust@writ").ok();
    assert_ne!(verify("git").code, 0, "another namespace");
    hardware.commit(&fleet, "carol");
    let allowed = format!(
        "gpg.ssh.allowedSignersFile={}",
        fleet.path("allowed").display()
    );
    fleet
        .in_state(&["-c", &allowed, "verify-commit", "HEAD"])
        .ok();
}

#[test]
fn a_security_key_that_was_touched_signs_for_authors_and_root() {
    let hardware = Hardware::new();
    let fleet = fleet_of_carol(&hardware, &[]);
    let host = fleet.host("one");
    hardware.commit(&fleet, "carol");
    fleet.push().ok();
    host.agent(&["once"]).ok();
    assert_eq!(host.status()["pass"]["sequence"], 2);
}

#[test]
fn a_security_key_that_nobody_touched_counts_for_nothing() {
    let hardware = Hardware::new();
    let untouched = ["-O", "no-touch-required"];
    let fleet = fleet_of_carol(&hardware, &untouched);
    hardware.commit(&fleet, "carol");
    let refused = fleet.push().refused("AUTHOR_BAD_SIGNATURE");
    assert!(refused.all().contains("not touched"), "{}", refused.all());
    hardware.make(&fleet, "root-2", &untouched);
    let replace = [
        "--replace",
        "keys/root.pub=keys/root-2.pub",
        "--output",
        "3.yaml",
    ];
    let propose = ["trust", "propose", "state.git"];
    hardware
        .policy(&fleet, &[&propose[..], &replace].concat())
        .ok();
    let signed = hardware.policy(&fleet, &["trust", "sign", "3.yaml", "--key", "keys/root-2"]);
    assert_eq!(signed.code, 2, "{}", signed.all());
    assert!(signed.all().contains("not touched"), "{}", signed.all());
    assert!(!fleet.path("3.sig").exists());
}

#[test]
fn a_root_key_in_an_agent_signs_without_its_file() {
    let fleet = Fleet::new("hosts: any\n", &[]);
    let agent = SshAgent::start(&fleet.path("agent.socket"));
    agent.take(&fleet.path("keys/root"));
    fleet.policy(&["trust", "propose", "state.git"]).ok();
    let first = fleet.in_state(&["show", "trust:1.yaml"]).ok().stdout;
    std::fs::write(fleet.path("1.yaml"), first).unwrap();
    let mut sign = agent.command(binary("policy"), &fleet.path(""));
    let args = ["trust", "sign", "2.yaml", "--key", "keys/root.pub"];
    program::run(sign.args(args)).ok();
    fleet.policy(&["trust", "check", "2.yaml"]).ok();
}

#[test]
fn a_thief_of_both_keys_is_left_behind_with_what_he_wrote() {
    let fleet = Fleet::new("hosts: any\n", &[]);
    let hosts = ["deceived", "slept"].map(|name| fleet.host(name));
    hosts[1].agent(&["once"]).ok();
    fleet.write(
        "environments/dev/environment.yaml",
        "hosts: any\nmaxRemovals: 99\n",
    );
    fleet.commit("Remove whatever you like").ok();
    fleet.push().ok();
    hosts[0].agent(&["once"]).ok();
    assert_eq!(hosts[0].status()["pass"]["sequence"], 2);
    let keys = Keys::of(fleet.path("keys"));
    for name in ["author-2", "policy-2"] {
        keys.make(name);
    }
    let propose = [
        "trust",
        "propose",
        "state.git",
        "--anchor",
        "1",
        "--next",
        "100",
    ];
    let replace = [
        "--replace=keys/author.pub=keys/author-2.pub",
        "--replace=keys/policy.pub=keys/policy-2.pub",
        "--reason=stolen",
    ];
    fleet.policy(&[&propose[..], &replace].concat()).ok();
    fleet.publish_second_trust();
    // What he wrote leaves `main` on the server; what he still pushes is refused.
    let server = |args: &[&str]| {
        let mut git = program::command("git", &fleet.path(""));
        program::run(git.arg("-C").arg(fleet.path("state.git")).args(args)).ok()
    };
    let good = server(&["rev-parse", "admitted~1^2"]).stdout;
    server(&["update-ref", "refs/heads/main", good.trim()]);
    fleet.push().refused("AUTHOR_UNKNOWN");
    fleet
        .policy(&["hook", "install", "state.git", "--key", "keys/policy-2"])
        .ok();
    let replaced = fleet.policy(&["admit", "state.git"]).ok();
    assert!(replaced.stdout.contains("replaced"), "{}", replaced.stdout);
    // Nothing was admitted since, and all is well: also for a host that accepted what he admitted.
    let new = fleet.host("new");
    for host in hosts.iter().chain([&new]) {
        host.agent(&["once"]).ok();
    }
    fleet.reset();
    let key = format!("user.signingkey={}", keys.path("author-2").display());
    fleet.write(
        "environments/dev/environment.yaml",
        "hosts: any\nmaxRemovals: 2\n",
    );
    fleet
        .in_state(&["-c", &key, "commit", "-q", "-a", "-m", "Go on"])
        .ok();
    fleet.push().ok();
    for host in hosts.iter().chain([&new]) {
        host.agent(&["once"]).ok();
        assert_eq!(host.status()["pass"]["sequence"], 100);
    }
}

/// The served repository in the hands of somebody with every key.
fn forge(fleet: &Fleet) -> Forge {
    Forge::of(fleet, &fleet.path("state.git"))
}

#[test]
fn a_replay_names_the_first_admission_that_the_rules_did_not_allow() {
    let fleet = Fleet::new("hosts: any\ncooldown: 1h\n", &[]);
    let replay = |range: &str| fleet.policy(&["replay", range, "--repository", "state.git"]);
    replay("..").ok();
    fleet.write(
        "environments/dev/environment.yaml",
        "hosts: any\ncooldown: 2h\n",
    );
    fleet.commit("Cool down longer").ok();
    let waits = fleet.push().ok();
    assert!(waits.all().contains("COOLDOWN"), "{}", waits.all());
    // Whoever has policy's key need not wait.
    let forge = forge(&fleet);
    forge.admit(forge.draft());
    let host = fleet.host("one");
    host.agent(&["once"]).ok();
    let replayed = replay("..");
    assert_eq!(replayed.code, 1, "{}", replayed.all());
    let differs = replayed
        .stdout
        .lines()
        .find(|line| line.contains("differs"));
    assert!(
        differs.unwrap().trim_start().starts_with("2 "),
        "{}",
        replayed.stdout
    );
    assert!(replayed.stdout.contains("COOLDOWN"), "{}", replayed.stdout);
    replay("1").ok();
}

#[test]
fn a_replay_names_a_hold_that_policy_dropped_or_made_up_in_its_authors_name() {
    let fleet = Fleet::new("hosts: any\n", &[]);
    let service = "source: { repository: https://git.example.org/web.git, branch: main }\n\
                   run: { command: [ ./web ] }\n";
    fleet.write("services/web/service.yaml", service);
    let pin = format!("source: {{ commit: \"{}\" }}\n", "1".repeat(40));
    fleet.write("environments/dev/web.yaml", &pin);
    fleet.commit("Run web").ok();
    fleet.push().ok();
    let forge = forge(&fleet);
    let replay = |range: &str| fleet.policy(&["replay", range, "--repository", "state.git"]);
    let admit = |holds: &[Hold]| forge.admit_edited(|draft| draft.manifest.holds = holds.to_vec());
    let by_author = Hold {
        environment: "dev".parse().unwrap(),
        subject: Subject::Service("web".parse().unwrap()),
        reason: Hold::AUTHOR.to_owned(),
    };
    let own = Hold {
        reason: "INCIDENT_7".to_owned(),
        ..by_author.clone()
    };
    let told = |sequence: &str, what: &str| {
        let replayed = replay(sequence);
        let line = format!("HOLD_MISSING: dev web is held by its author {what}\n");
        assert!(
            replayed.code == 1 && replayed.stdout.contains("differs"),
            "{}",
            replayed.all()
        );
        assert!(replayed.stdout.contains(&line), "{}", replayed.all());
    };
    admit(std::slice::from_ref(&by_author));
    told("3", "in the manifest and not in his commit");
    fleet.write("environments/dev/web.yaml", &format!("{pin}hold: slow\n"));
    fleet.commit("Hold web").ok();
    fleet.push().ok();
    admit(&[]);
    told("5", "and not in the manifest");
    admit(&[own]);
    let word = "dev  web  by policy's own word held: INCIDENT_7";
    let replayed = replay("6").ok();
    assert!(replayed.stdout.contains(word), "{}", replayed.stdout);
}

#[test]
fn an_audit_names_both_sides_of_a_split_view_and_who_is_behind() {
    let fleet = Fleet::new("hosts: any\n", &[]);
    let [one, two] = ["one", "two"].map(|name| fleet.host(name));
    let change = |value: u32| {
        let text = format!("hosts: any\nmaxRemovals: {value}\n");
        fleet.write("environments/dev/environment.yaml", &text);
        fleet.commit("Change").ok();
        fleet.push().ok();
    };
    let status = |host: &tests::host::Host, name: &str| {
        let text = serde_json::to_string(&host.status()).unwrap();
        std::fs::write(fleet.path(name), text).unwrap();
    };
    change(2);
    one.agent(&["once"]).ok();
    status(&one, "one.json");
    // Somebody with policy's key shows the second host another admission for the same sequence.
    let forge = forge(&fleet);
    let honest = ["admitted", "fresh"].map(|branch| (branch, forge.tip(branch)));
    forge.point("admitted", &forge.parent(&honest[0].1));
    let mut draft = forge.draft();
    draft.manifest.issued += jiff::SignedDuration::from_secs(1);
    forge.admit(draft);
    two.agent(&["once"]).ok();
    status(&two, "two.json");
    for (branch, tip) in &honest {
        forge.point(branch, tip);
    }
    let audit = |seen: &[&str]| {
        let args = [&["audit", "--repository", "state.git"], seen].concat();
        fleet.policy(&args)
    };
    audit(&["one.json"]).ok();
    let split = audit(&["one.json", "two.json"]).refused("LOG_FORK");
    for side in ["host 'two' has ", "state.git has "] {
        assert!(split.all().contains(side), "{}", split.all());
    }
    change(3);
    let behind = audit(&["one.json"]).ok();
    assert!(behind.stdout.contains("2, 1 behind"), "{}", behind.stdout);
    one.agent(&["once"]).ok();
    status(&one, "one.json");
    for (branch, tip) in &honest {
        forge.point(branch, tip);
    }
    audit(&["one.json"]).refused("LOG_ROLLBACK");
}
