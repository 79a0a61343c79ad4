//! What is newer than this version, in the log, in releases, in rules and in trust: refused with the code that asks for an
//! upgrade, as far as it reaches and no further, and never read past.

use std::cell::Cell;

use state::digest::Sha256Hash;
use state::key::SigningKey;
use state::manifest::Subject;
use state::release::{Origin, Release, Rules};
use state::tree::Objects as _;
use state::verify::{self, HostIdentity};
use state::{Code, admitted};

use crate::support::{Draft, Fleet, Host, at, id_of, identity, refused, web_refused};

const BOTH: &[&str] = &["root1", "root2"];
const RULES: &str = "environments/prod/environment.yaml";

/// Adds lines to what is admitted at a place of `prod`, with everything that policy says about it in order.
fn add(draft: &mut Draft, subject: &str, lines: &str) {
    let (prod, subject): (_, Subject) = ("prod".parse().unwrap(), subject.parse().unwrap());
    let path = admitted::path(&prod, &subject);
    let text = [&draft.files[&path], lines.as_bytes()].concat();
    let id = id_of(&prod, &subject, &text);
    let mut changes = draft.manifest.changes.iter_mut();
    let change = changes
        .find(|change| change.place() == (&prod, &subject))
        .unwrap();
    change.to = Some(id);
    draft.files.insert(path, text.into());
    draft.manifest.tree = state::tree::sha256_id(&draft.files);
}

/// A fleet with `web` and `api`, both admitted once.
fn two_services() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.write(
        "services/api/service.yaml",
        "source: { repository: https://git.example.org/api.git, branch: main }\nrun: { command: [ ./api ] }\n",
    );
    fleet.pin("api", 1);
    fleet.commit("alice", "two services");
    fleet.admit();
    fleet
}

/// The next version of both is admitted, `subject` with further `lines`.
fn next_of_both(fleet: &mut Fleet, subject: &str, lines: &str) {
    fleet.pin("web", 2);
    fleet.pin("api", 2);
    fleet.write(RULES, "hosts: any\ncooldown: 1s\n");
    fleet.commit("alice", "two");
    fleet.admit_edited(|draft| add(draft, subject, lines));
}

#[test]
fn a_manifest_of_a_later_version_ends_the_intake_and_the_floor_keeps_what_came_before() {
    let mut fleet = Fleet::with_admissions(2);
    fleet.pin("web", 3);
    fleet.commit("alice", "three");
    let draft = fleet.draft();
    fleet.admit_spelled(draft, |text| {
        let text = text.replace("manifest v1", "manifest v2");
        text.replace("issued", "freeze: prod web\nissued")
    });
    let mut host = Host::of(&fleet);
    for _ in 0..2 {
        let refusal = host.intake(&fleet).unwrap_err();
        assert_eq!(refusal.code, Code::ManifestNewer, "{refusal}");
        assert_eq!(host.floor.sequence, 2);
    }
}

#[test]
fn a_manifest_of_a_later_version_that_policy_did_not_sign_asks_nobody_to_upgrade() {
    let mut fleet = Fleet::with_admissions(2);
    let later = |text: String| text.replace("manifest v1", "manifest v2");
    let draft = fleet.draft();
    let honest = std::mem::replace(&mut fleet.policy, SigningKey::generate());
    fleet.admit_spelled(draft, later);
    fleet.policy = honest;
    assert_eq!(refused(&fleet), Code::ManifestUnsigned);
    // A key that counted under an older trust file may have signed it in its time.
    let mut fleet = Fleet::with_admissions(2);
    let draft = fleet.draft();
    fleet.admit_spelled(draft, later);
    fleet.rotate_policy(3);
    assert_eq!(refused(&fleet), Code::ManifestNewer);
}

#[test]
fn policy_never_takes_an_admission_of_a_later_version_for_junk_of_nobody() {
    let mut fleet = Fleet::with_admissions(2);
    let draft = fleet.draft();
    fleet.admit_spelled(draft, |text| text.replace("manifest v1", "manifest v2"));
    let (git, tips) = (fleet.git(), fleet.tips());
    let chain = verify::Chain::read(&git, &tips.trust, &fleet.domain).unwrap();
    let log = verify::log(&git, chain, Some(&tips.admitted), at(30)).unwrap();
    assert_eq!(log.junk().unwrap().code, Code::ManifestNewer);
    let newest = log.chain().newest();
    assert!(verify::is_signed(&git, &tips.admitted, newest));
}

#[test]
fn a_release_with_an_unknown_field_stops_that_service_alone() {
    for (lines, code) in [
        ("freeze: true\n", Code::ReleaseNewer),
        ("strategy:\n  canary: {}\n", Code::ReleaseNewer),
        // No field, and still nothing that stops the others.
        ("keep: many\n", Code::ConfigInvalid),
    ] {
        let mut fleet = two_services();
        next_of_both(&mut fleet, "web", lines);
        let releases = Host::of(&fleet).releases(&fleet).unwrap();
        let web = releases["web"].as_ref().unwrap_err();
        assert_eq!(web.code, code, "{web}");
        let api = releases["api"].as_ref().unwrap();
        assert_eq!(api.spec.source.commit.0, [2; 20]);
        // What follows is taken in, and what it changes from the unknown release on is told as it is.
        fleet.pin("web", 3);
        fleet.commit("alice", "three");
        fleet.admit_edited(|draft| {
            let change = &draft.manifest.changes[0];
            assert_eq!(change.subject.as_str(), "web");
        });
        assert!(Host::of(&fleet).releases(&fleet).unwrap()["web"].is_ok());
    }
}

#[test]
fn an_unknown_release_is_named_by_all_that_it_says() {
    let mut fleet = two_services();
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit_edited(|draft| {
        let known = draft.manifest.changes[0].to;
        add(draft, "web", "freeze: true\n");
        draft.manifest.changes[0].to = known;
    });
    assert_eq!(refused(&fleet), Code::ChangeMismatch);
}

#[test]
fn an_unknown_release_for_other_hosts_concerns_none_here_unless_its_place_is_unknown_too() {
    for (place, concerns) in [
        ("place:\n  labels:\n    role: db\n", false),
        ("place:\n  labels:\n    role: db\n  count: 2\n", true),
    ] {
        let mut fleet = two_services();
        next_of_both(&mut fleet, "web", &format!("freeze: true\n{place}"));
        let releases = Host::of(&fleet).releases(&fleet).unwrap();
        assert_eq!(releases.contains_key("web"), concerns, "{place}");
    }
}

#[test]
fn rules_with_an_unknown_field_let_nothing_of_their_environment_start() {
    let mut fleet = two_services();
    for path in [
        "environments/dev/environment.yaml",
        "environments/dev/web.yaml",
    ] {
        let prod = path.replace("dev", "prod");
        let text = std::fs::read_to_string(fleet.path("state").join(prod)).unwrap();
        fleet.write(path, &text);
    }
    next_of_both(&mut fleet, "environment", "freeze: always\n");
    let mut host = Host::of(&fleet);
    assert_eq!(host.releases(&fleet).unwrap_err().code, Code::RulesNewer);
    let dev = HostIdentity {
        environment: "dev".parse().unwrap(),
        ..identity()
    };
    let intake = host.intake(&fleet).unwrap();
    let asked = Cell::new(0);
    let known = |_: &_, _: &_, _: &_| {
        asked.set(asked.get() + 1);
        false
    };
    let releases = verify::releases(&fleet.git(), &intake, &dev, &known).unwrap();
    assert!(releases["web"].is_ok() && asked.get() == 1);
    // That some other release of the environment was verified before does not help.
    let all_known = verify::releases(&fleet.git(), &intake, &identity(), &|_, _, _| true);
    assert_eq!(all_known.unwrap_err().code, Code::RulesNewer);
}

#[test]
fn what_unknown_rules_let_in_is_not_believed_after_they_are_gone() {
    let mut fleet = two_services();
    next_of_both(&mut fleet, "environment", "freeze: always\n");
    fleet.pin("web", 3);
    fleet.commit("alice", "three");
    let mut draft = fleet.draft();
    // Rules that are not known stay as they are.
    let path = "releases/prod/environment.yaml";
    let rules: Subject = "environment".parse().unwrap();
    draft
        .manifest
        .changes
        .retain(|change| change.subject != rules);
    draft
        .files
        .insert(path.into(), fleet.admitted_files()[path].clone());
    draft.manifest.tree = state::tree::sha256_id(&draft.files);
    fleet.admit_drafted(draft);
    fleet.write(RULES, "hosts: any\n");
    fleet.commit("alice", "simpler rules");
    fleet.admit();
    let refusal = Host::of(&fleet).releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::RulesNewer, "{refusal}");
}

/// `web` is admitted as `main` has it without the change of `path`, which is what only a later version can read.
fn admitted_from(path: &str, more: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    let mut draft = fleet.draft();
    let text = std::fs::read_to_string(fleet.path("state").join(path)).unwrap();
    fleet.write(path, &format!("{text}{more}"));
    let main = fleet.commit("alice", "what only a later version knows");
    let git = fleet.git();
    let raw = git
        .object(state::git::Kind::Commit, &main, 1 << 20)
        .unwrap();
    let commit = state::commit::Commit::parse(main, &raw).unwrap();
    let author: Origin = commit.origin();
    let tree = state::tree::read(&git, &commit.tree, &fleet.newest_trust().limits).unwrap();
    let prod = || "prod".parse().unwrap();
    let web = "releases/prod/web.yaml";
    let mut release =
        Release::from_yaml(prod(), "web".parse().unwrap(), &draft.files[web]).unwrap();
    release.origin = author.clone();
    let environment = "releases/prod/environment.yaml";
    let mut rules = Rules::from_yaml(prod(), &draft.files[environment]).unwrap();
    rules.origin = author.clone();
    draft
        .files
        .insert(web.into(), release.to_yaml().into_bytes().into());
    draft
        .files
        .insert(environment.into(), rules.to_yaml().into_bytes().into());
    draft.manifest.tree = state::tree::sha256_id(&draft.files);
    (draft.manifest.author, draft.manifest.author_tree) = (author, tree.id);
    draft.parents[1] = main;
    fleet.admit_drafted(draft);
    fleet
}

#[test]
fn a_commit_that_only_a_later_version_renders_is_newer_and_policy_not_broken() {
    let base = admitted_from("services/web/service.yaml", "freeze: false\n");
    assert_eq!(web_refused(&base), Code::ReleaseNewer);
    let overlay = admitted_from("environments/prod/web.yaml", "freeze: false\n");
    assert_eq!(web_refused(&overlay), Code::ReleaseNewer);
    for (path, more) in [
        (RULES, "freeze: never\n"),
        ("repository.yaml", "moved: no\n"),
    ] {
        let fleet = admitted_from(path, more);
        let refusal = Host::of(&fleet).releases(&fleet).unwrap_err();
        assert_eq!(refusal.code, Code::RulesNewer, "{path}: {refusal}");
    }
}

#[test]
fn a_newer_trust_file_ends_the_intake_and_what_was_verified_before_it_counts() {
    for more in ["quorum: 2\n", ""] {
        let fleet = Fleet::with_admissions(1);
        let first = fleet.trust_file(1, None, "");
        let second = fleet.trust_file(2, Some(Sha256Hash::of(first.as_bytes())), "");
        let third = fleet.trust_file(3, Some(Sha256Hash::of(second.as_bytes())), more);
        let third = match more {
            "" => third.replace("trust/1", "trust/2"),
            _ => third,
        };
        let all = [(1, &*first, BOTH), (2, &*second, BOTH), (3, &*third, BOTH)];
        fleet.publish_trust(&all);
        let mut host = Host::of(&fleet);
        let refusal = host.intake(&fleet).unwrap_err();
        assert_eq!(refusal.code, Code::TrustNewer, "{refusal}");
        assert_eq!((host.floor.trust.version, host.persisted), (2, 1));
        assert_eq!(host.floor.sequence, 0);
        // Whoever hides the second version now, which may have ended a key, is found out.
        fleet.publish_trust(&all[..1]);
        assert_eq!(host.intake(&fleet).unwrap_err().code, Code::TrustRollback);
        // Only root asks for an upgrade.
        fleet.publish_trust(&[all[0], all[1], (3, &third, &["root1"])]);
        assert_eq!(refused(&fleet), Code::TrustUnsigned);
    }
}

#[test]
fn a_trust_file_with_an_unknown_right_is_in_force_and_the_right_grants_nothing() {
    let mut fleet = Fleet::with_admissions(1);
    let first = fleet.trust_file(1, None, "");
    let second = fleet.trust_file(2, Some(Sha256Hash::of(first.as_bytes())), "");
    let second = second.replace("[ author, rules, hold ]", "[ author, everything ]");
    fleet.publish_trust(&[(1, &first, BOTH), (2, &second, BOTH)]);
    fleet.pin("web", 2);
    fleet.commit("alice", "a pin");
    fleet.admit();
    let mut host = Host::of(&fleet);
    assert!(host.releases(&fleet).unwrap()["web"].is_ok());
    assert_eq!(host.floor.trust.version, 2);
    fleet.write(RULES, "hosts: any\ncooldown: 1s\n");
    fleet.commit("alice", "rules, for which he has the right no more");
    fleet.admit();
    let refusal = host.releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::RulesNotAllowed);
}
