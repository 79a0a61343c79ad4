//! What is held does not go live, and what is needed goes first: author, policy and agents, with the real programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use serde_json::Value;
use state::digest::Sha256Hash;
use state::manifest::Subject;
use tests::attack::forge::Forge;
use tests::attack::keys::Keys;
use tests::earned::earn_here;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};
use tests::{http, wait};

const RULES: &str = "hosts: any\n";

/// What an author writes besides the hold, as a terminal must not obey it.
const REASON: &str = "too \\e[2J slow";

/// The overlay of a service that is pinned to `commit`, with more lines.
fn overlay(fleet: &Fleet, service: &str, commit: &str, more: &str) {
    let text = format!("source: {{ commit: \"{commit}\" }}\n{more}");
    fleet.write(&format!("environments/dev/{service}.yaml"), &text);
}

fn runs(commit: &str) -> impl Fn(&Value) -> bool {
    move |service| is_live(service) && service["running"]["source"] == commit
}

/// A fleet that runs `web` on a host, its port and its source commit.
fn live() -> (Fleet, Host, u16, String) {
    let mut web = Service::web("web");
    web.strategy = "{ blueGreen: { bake: 300ms } }";
    let fleet = Fleet::new(RULES, std::slice::from_ref(&web));
    let mut host = fleet.host("one");
    host.start();
    let first = host.wait_for("v1 is live", "web", is_live);
    let first = first["running"]["source"].as_str().unwrap().to_owned();
    (fleet, host, web.port.unwrap(), first)
}

/// Waits until the host says that `web` is held, with `code`, while it runs `commit`.
#[track_caller]
fn wait_held(host: &Host, code: &str, commit: &str) {
    host.wait_for(code, "web", |web| {
        hold_code(web) == Some(code) && runs(commit)(web)
    });
    earn_here(code);
}

/// The repository that is served, past every hook and rule.
fn forge(fleet: &Fleet) -> Forge {
    Forge::of(fleet, &fleet.path("state.git"))
}

#[test]
fn an_authors_hold_stops_a_release_and_lifting_it_lets_it_go() {
    let (fleet, host, port, first) = live();
    let second = fleet.source("web", "text v2\n");
    overlay(&fleet, "web", &second, &format!("hold: \"{REASON}\"\n"));
    fleet.commit("Release web, held").ok();
    let pushed = fleet.push();
    assert!(
        pushed.code == 0 && pushed.all().contains("HELD"),
        "{pushed:?}"
    );
    wait_held(&host, "HELD", &first);
    assert_eq!(host.service("web")["held"]["kind"], "fleet");
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    for command in [&["status"][..], &["why", "web"]] {
        let said = host.agent(command).all();
        let shown = r"held by its author: too \u{1b}[2J slow";
        assert!(said.contains(shown), "{said}");
    }
    overlay(&fleet, "web", &second, "");
    fleet.commit("Lift the hold").ok();
    fleet.push().ok();
    host.wait_for("v2 is live", "web", runs(&second));
    assert_eq!(host.service("web")["held"], Value::Null);
}

#[test]
fn policys_hold_stops_a_release_and_lifting_it_lets_it_go() {
    let (fleet, host, _, first) = live();
    let hold = ["hold", "dev/web", "--repository", "state.git"];
    let held = fleet.policy(&[&hold[..], &["--reason", "INCIDENT"]].concat());
    held.ok();
    wait_held(&host, "HELD", &first);
    let second = fleet.release("web", "text v2\n");
    let pending = fleet.policy(&["pending", "state.git"]).all();
    assert!(pending.contains("held by policy: INCIDENT"), "{pending}");
    let why = host.agent(&["why", "web"]).all();
    assert!(why.contains("INCIDENT"), "{why}");
    fleet.policy(&[&hold[..], &["--lift"]].concat()).ok();
    host.wait_for("v2 is live", "web", runs(&second));
}

#[test]
fn a_hold_stops_a_deployment_that_has_no_traffic_yet() {
    let (fleet, host, port, first) = live();
    let second = fleet.release("web", "text v2\nnever-ready\n");
    host.wait_for("v2 starts", "web", |web| web["phase"] == "ready");
    overlay(&fleet, "web", &second, &format!("hold: \"{REASON}\"\n"));
    fleet.commit("Hold web").ok();
    fleet.push().ok();
    wait_held(&host, "HELD", &first);
    assert_eq!(host.processes_named("service").len(), 1, "v1 alone");
    assert_eq!(http::get(port, "/"), Some((200, "v1".to_owned())));
    let history = host.agent(&["history", "web"]).ok().stdout;
    assert!(history.contains("HELD"), "{history}");

    // A held service is kept up as any other is.
    for pid in host.processes_named("service") {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    wait::until("v1 again", Duration::from_secs(30), || {
        (http::get(port, "/") == Some((200, "v1".to_owned()))).then_some(())
    });
    let third = fleet.source("web", "text v3\n");
    overlay(&fleet, "web", &third, "");
    fleet.commit("Lift the hold, with something better").ok();
    fleet.push().ok();
    host.wait_for("v3 is live", "web", runs(&third));
}

#[test]
fn a_hold_needs_the_right_to() {
    let fleet = Fleet::new(RULES, &[Service::web("web")]);
    let keys = Keys::of(fleet.path("keys"));
    let key = keys.make("bob");
    let first = fleet.in_state(&["show", "trust:1.yaml"]).ok().stdout;
    let hash = Sha256Hash::of(first.as_bytes());
    let mut second = first.replace(
        "version: 1\n",
        &format!("version: 2\nprev: sha256:{hash}\n"),
    );
    second += &format!(
        "\n  - {{ name: bob, key: \"{key}\", environments: [ dev ], paths: [ \"**\" ], may: [ author ] }}\n"
    );
    let namespace = state::sshsig::Namespace::Trust;
    let signature = state::sshsig::sign(&keys.get("root"), namespace, second.as_bytes());
    forge(&fleet).publish_trust_files(&[
        ("2.yaml".to_owned(), second),
        ("2.sig".to_owned(), signature),
    ]);
    let commit = fleet.source("web", "text v2\n");
    overlay(&fleet, "web", &commit, "hold: because I say so\n");
    let signer = format!("user.signingKey={}", keys.path("bob").display());
    let args = ["-c", &signer, "commit", "-q", "-a", "-S", "-m", "Hold web"];
    fleet.in_state(&args).ok();
    let pushed = fleet.push().refused("PATH_NOT_ALLOWED");
    assert!(pushed.all().contains("lacks `may: hold`"), "{pushed:?}");
}

#[test]
fn a_policy_that_drops_an_authors_hold_is_found_out() {
    let (fleet, host, _, first) = live();
    let second = fleet.source("web", "text v2\n");
    overlay(&fleet, "web", &second, "hold: \"not yet\"\n");
    fleet.commit("Release web, held").ok();
    fleet.push().ok();
    wait_held(&host, "HELD", &first);
    // With the policy key, and everything else in order.
    forge(&fleet).admit_edited(|draft| draft.manifest.holds.clear());
    wait_held(&host, "HOLD_MISSING", &first);
    let why = host.agent(&["why", "web"]).all();
    assert!(why.contains("its author holds it"), "{why}");
    // An honest policy goes on from there.
    overlay(&fleet, "web", &second, "");
    fleet.commit("Lift the hold").ok();
    fleet.push().ok();
    host.wait_for("v2 is live", "web", runs(&second));
}

/// A fleet that runs `api`, which rests for a while, and a commit that changes it and adds `web`, which needs it.
fn needing(rules: &str) -> (Fleet, Host, String) {
    let api = Service::web("api");
    let fleet = Fleet::new(rules, std::slice::from_ref(&api));
    let mut host = fleet.host("one");
    host.start();
    let first = host.wait_for("api is live", "api", is_live);
    let mut web = Service::web("web");
    web.extra = "needs: [ api ]\n".to_owned();
    fleet.add(&web);
    let commit = fleet.source("api", "text v2\n");
    overlay(&fleet, "api", &commit, "");
    fleet.commit("Run web with a new api").ok();
    let first = first["running"]["source"].as_str().unwrap().to_owned();
    (fleet, host, first)
}

#[test]
fn a_service_goes_live_with_what_it_needs() {
    let (fleet, host, first) = needing("hosts: any\ncooldown: 15s\n");
    let pushed = fleet.push();
    let said = pushed.all();
    assert!(said.contains("COOLDOWN"), "{said}");
    assert!(said.contains("NEEDS_UNMET: waits for 'api'"), "{said}");
    earn_here("NEEDS_UNMET");
    assert_eq!(host.service("web"), Value::Null);
    assert_eq!(host.service("api")["running"]["source"], first.as_str());
    wait::until("the end of the cooldown", Duration::from_secs(60), || {
        (fleet.policy(&["admit", "state.git"]).code == 0).then_some(())
    });
    let manifest = forge(&fleet).last().manifest;
    let subjects: Vec<_> = manifest.changes.iter().map(|one| &one.subject).collect();
    assert_eq!(subjects.len(), 2, "both in one manifest: {subjects:?}");
    host.wait_for("web is live", "web", is_live);
    host.wait_for("api is new", "api", |api| {
        is_live(api) && api["running"]["source"] != first.as_str()
    });
}

#[test]
fn a_policy_that_ignores_what_a_service_needs_is_found_out() {
    let (fleet, host, first) = needing("hosts: any\ncooldown: 1h\n");
    fleet.push().ok();
    let forge = forge(&fleet);
    let before = forge.admitted_files();
    forge.admit_edited(|draft| {
        let api: Subject = "api".parse().unwrap();
        draft.manifest.changes.retain(|one| one.subject != api);
        let path = "releases/dev/api.yaml";
        draft.files.insert(path.to_owned(), before[path].clone());
        draft.seal();
    });
    host.wait_for("web is refused", "web", |web| {
        hold_code(web) == Some("NEEDS_UNMET")
    });
    let web = host.service("web");
    assert_eq!(web["running"], Value::Null);
    assert!(runs(&first)(&host.service("api")));
    let why = host.agent(&["why", "web"]).all();
    assert!(why.contains("it needs 'api' as"), "{why}");
}
