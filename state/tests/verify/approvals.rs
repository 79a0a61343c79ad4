//! Step 12: approvals, as an agent counts them.

use jiff::{SignedDuration, Timestamp};
use state::approval::Approval;
use state::digest::Domain;
use state::manifest::{Change, Manifest};
use state::{Code, tree};

use crate::support::{Fleet, Host, at, refused, web_refused};

/// Who may approve in the fleets of these tests: bob and carol in `prod`, dan elsewhere only.
const PEOPLE: [&str; 3] = ["bob", "carol", "dan"];

/// A fleet whose environment requires `required` approvals since manifest 1, in which `web` runs.
fn fleet(required: u32) -> Fleet {
    let mut fleet = Fleet::new();
    let mut authors = String::new();
    for name in PEOPLE {
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name];
        fleet.run("ssh-keygen", &arguments);
        let key = std::fs::read_to_string(fleet.path(&format!("{name}.pub"))).unwrap();
        let environment = if name == "dan" { "dev" } else { "prod" };
        authors += &format!(
            "  - {{ name: {name}, key: \"{}\", environments: [ {environment} ], paths: [ \"**\" ], may: [ author, approve ] }}\n",
            key.trim()
        );
    }
    fleet.publish_second_trust_from_first(&authors);
    let rules = format!("hosts: any\napprovals: {required}\n");
    // The environment and its first service are older than the demand: they come with rules of their own.
    fleet.admit();
    fleet.write("environments/prod/environment.yaml", &rules);
    fleet.commit("alice", "from now on with approvals");
    fleet.admit();
    fleet
}

/// What approves the change of `web` that `main` asks for now.
fn wanted(fleet: &Fleet, since: u64) -> Approval {
    wanted_of(fleet, "web", since)
}

fn wanted_of(fleet: &Fleet, subject: &str, since: u64) -> Approval {
    let draft = fleet.draft();
    Approval {
        domain: fleet.domain,
        change: change(&draft.manifest, subject).clone(),
        since,
        expires: at(60),
    }
}

fn change<'a>(manifest: &'a Manifest, subject: &str) -> &'a Change {
    let mut changes = manifest.changes.iter();
    changes
        .find(|change| change.subject.as_str() == subject)
        .unwrap()
}

/// Signs `statement` as `name` for a namespace, with ssh-keygen.
fn sign(fleet: &Fleet, name: &str, namespace: &str, statement: &str) -> String {
    std::fs::write(fleet.path("approval"), statement).unwrap();
    let arguments = ["-q", "-Y", "sign", "-n", namespace, "-f", name, "approval"];
    fleet.run("ssh-keygen", &arguments);
    let signature = fleet.path("approval.sig");
    let text = std::fs::read_to_string(&signature).unwrap();
    std::fs::remove_file(signature).unwrap();
    text
}

/// Admits what `main` asks for with these files as evidence for `web`.
fn admit(fleet: &mut Fleet, approvals: &[(&str, &str, &str)]) -> Manifest {
    admit_with(fleet, "web", approvals)
}

fn admit_with(fleet: &mut Fleet, subject: &str, approvals: &[(&str, &str, &str)]) -> Manifest {
    fleet.admit_edited(|draft| {
        for (name, statement, signature) in approvals {
            let path = format!("evidence/prod/{subject}/{name}");
            draft
                .files
                .insert(format!("{path}.sig"), signature.as_bytes().into());
            draft.files.insert(path, statement.as_bytes().into());
        }
        draft.manifest.tree = tree::sha256_id(&draft.files);
    })
}

/// Admits the change of `web` since `since` with approvals by `names`.
fn admit_approved(fleet: &mut Fleet, since: u64, names: &[&str]) -> Manifest {
    admit_approved_of(fleet, "web", since, names)
}

fn admit_approved_of(fleet: &mut Fleet, subject: &str, since: u64, names: &[&str]) -> Manifest {
    let text = wanted_of(fleet, subject, since).print();
    let signed = |name: &&str| sign(fleet, name, "approval@writ", &text);
    let signatures: Vec<_> = names.iter().map(signed).collect();
    let pairs = names.iter().zip(&signatures);
    let files: Vec<_> = pairs
        .map(|(name, signature)| (*name, text.as_str(), signature.as_str()))
        .collect();
    admit_with(fleet, subject, &files)
}

/// Makes an approval one of something else.
type Edit = fn(&mut Approval);

fn is_verified(fleet: &Fleet) -> bool {
    Host::of(fleet).releases(fleet).unwrap()["web"].is_ok()
}

#[test]
fn a_change_needs_as_many_persons_as_its_environment_says() {
    let mut two = fleet(2);
    two.pin("web", 2);
    two.commit("alice", "two");
    admit_approved(&mut two, 1, &["bob"]);
    assert_eq!(web_refused(&two), Code::ApprovalMissing);
    two.pin("web", 3);
    two.commit("alice", "three");
    admit_approved(&mut two, 3, &["bob", "carol"]);
    assert!(is_verified(&two));
}

#[test]
fn who_may_not_approve_there_and_who_has_a_part_in_the_change_do_not_count() {
    let mut fleet = fleet(1);
    let cases = [("alice", "dan"), ("alice", "alice"), ("bob", "bob")];
    for ((signer, approver), version) in cases.into_iter().zip(2..) {
        fleet.pin("web", version);
        fleet.commit(signer, "a change");
        let since = match version {
            2 => 1,
            _ => fleet.last().sequence,
        };
        admit_approved(&mut fleet, since, &[approver]);
        assert_eq!(web_refused(&fleet), Code::ApprovalMissing, "{approver}");
    }
}

#[test]
fn a_co_author_whose_branch_was_merged_does_not_count_and_a_bystander_does() {
    let mut fleet = fleet(1);
    let merge = |fleet: &Fleet, path: &str, version: u8| {
        fleet.git_as("bob", &["checkout", "-q", "-b", "side"]);
        fleet.write(
            path,
            &format!(
                "source: {{ commit: \"{}\" }}\n",
                format!("{version:02x}").repeat(20)
            ),
        );
        fleet.commit("bob", "on a branch");
        fleet.git_as("alice", &["checkout", "-q", "main"]);
        let arguments = ["merge", "-q", "--no-ff", "-S", "-m", "merge", "side"];
        fleet.git_as("alice", &arguments);
        fleet.git_as("alice", &["branch", "-q", "-D", "side"]);
    };
    merge(&fleet, "environments/prod/web.yaml", 2);
    admit_approved(&mut fleet, 1, &["bob"]);
    assert_eq!(web_refused(&fleet), Code::ApprovalMissing);
    merge(&fleet, "notes/of-bob.yaml", 3);
    fleet.pin("web", 4);
    fleet.commit("alice", "by alice alone");
    admit_approved(&mut fleet, 3, &["bob"]);
    assert!(is_verified(&fleet));
}

#[test]
fn an_approval_of_anything_else_does_not_count() {
    let edits: [(&str, Edit); 6] = [
        ("domain", |approval| approval.domain = Domain([9; 32])),
        ("from", |approval| approval.change.from = None),
        ("to", |approval| approval.change.to = approval.change.from),
        ("since", |approval| approval.since = 0),
        ("service", |approval| {
            approval.change.subject = "api".parse().unwrap();
        }),
        ("expired", |approval| approval.expires = at(3)),
    ];
    for (what, edit) in edits {
        let mut fleet = fleet(1);
        fleet.pin("web", 2);
        fleet.commit("alice", "two");
        let mut approval = wanted(&fleet, 1);
        edit(&mut approval);
        let text = approval.print();
        let signature = sign(&fleet, "bob", "approval@writ", &text);
        admit(&mut fleet, &[("bob", &text, &signature)]);
        assert_eq!(web_refused(&fleet), Code::ApprovalMissing, "{what}");
    }
    let mut fleet = fleet(1);
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    let text = wanted(&fleet, 1).print();
    let signature = sign(&fleet, "bob", "git", &text);
    admit(&mut fleet, &[("bob", &text, &signature)]);
    assert_eq!(web_refused(&fleet), Code::ApprovalMissing, "namespace");
}

#[test]
fn an_approval_works_once() {
    let mut fleet = fleet(1);
    fleet.pin("web", 2);
    fleet.commit("alice", "there");
    let text = wanted(&fleet, 1).print();
    let signature = sign(&fleet, "bob", "approval@writ", &text);
    admit(&mut fleet, &[("bob", &text, &signature)]);
    assert!(is_verified(&fleet));
    fleet.pin("web", 1);
    fleet.commit("alice", "back");
    admit_approved(&mut fleet, 3, &["bob"]);
    assert!(is_verified(&fleet));
    fleet.pin("web", 2);
    fleet.commit("alice", "there again");
    admit(&mut fleet, &[("bob", &text, &signature)]);
    assert_eq!(web_refused(&fleet), Code::ApprovalMissing);
}

#[test]
fn rules_that_nobody_approved_refuse_everything() {
    let mut fleet = fleet(1);
    fleet.write("environments/prod/environment.yaml", "hosts: any\n");
    fleet.commit("alice", "no approvals any more");
    fleet.admit();
    let refusal = Host::of(&fleet).releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::ApprovalMissing, "{refusal}");
}

#[test]
fn rules_that_nobody_approved_stay_refused_whatever_follows_them() {
    let mut fleet = fleet(1);
    let set = |fleet: &Fleet, rules: &str| {
        fleet.write("environments/prod/environment.yaml", rules);
        fleet.commit("alice", "other rules");
    };
    set(&fleet, "hosts: any\n");
    fleet.admit();
    // By the rules of now, which nobody let in, this needs no approval.
    set(&fleet, "hosts: any\nmaxRemovals: 2\n");
    fleet.admit();
    let refusal = Host::of(&fleet).releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::ApprovalMissing, "{refusal}");
    assert!(
        refusal.detail.starts_with("the rules of manifest 3"),
        "{refusal}"
    );
}

#[test]
fn rules_relaxed_for_a_moment_are_found_by_a_host_that_had_verified_those_before() {
    let mut fleet = fleet(1);
    let mut host = Host::of(&fleet);
    host.releases(&fleet).unwrap();
    let set = |fleet: &mut Fleet, rules: &str| {
        fleet.write("environments/prod/environment.yaml", rules);
        fleet.commit("alice", "other rules");
        fleet.admit();
    };
    // The floor passes them one by one, and nothing is released in between.
    set(&mut fleet, "hosts: any\n");
    host.intake(&fleet).unwrap();
    fleet.pin("web", 2);
    fleet.commit("alice", "what nobody approved");
    fleet.admit();
    host.intake(&fleet).unwrap();
    set(&mut fleet, "hosts: any\napprovals: 1\n");
    host.intake(&fleet).unwrap();
    let refusal = host.releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::ApprovalMissing, "{refusal}");
    assert!(
        refusal.detail.starts_with("the rules of manifest 3"),
        "{refusal}"
    );
}

#[test]
fn rules_that_were_approved_are_accepted_also_after_they_changed_again() {
    let mut fleet = fleet(1);
    for (since, rules) in [
        (2, "approvals: 1\nmaxRemovals: 2\n"),
        (3, "maxRemovals: 3\n"),
    ] {
        let rules = format!("hosts: any\n{rules}");
        fleet.write("environments/prod/environment.yaml", &rules);
        fleet.commit("alice", "other rules");
        admit_approved_of(&mut fleet, "environment", since, &["bob"]);
    }
    assert!(is_verified(&fleet));
}

#[test]
fn evidence_changes_only_with_what_it_is_for() {
    let mut fleet = fleet(1);
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    admit_approved(&mut fleet, 1, &["bob"]);
    fleet.write("services/api/service.yaml", "source: { repository: https://git.example.org/api.git, branch: main }\nrun: { command: [ ./api ] }\n");
    fleet.pin("api", 1);
    fleet.commit("alice", "another service");
    admit(&mut fleet, &[("carol", "junk", "junk")]);
    assert_eq!(refused(&fleet), Code::ChangeMismatch);
}

#[test]
fn what_nobody_approved_is_not_signed_either() {
    let fleet = fleet(1);
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    let git = fleet.git();
    let tips = fleet.tips();
    let chain = state::verify::Chain::read(&git, &tips.trust, &fleet.domain).unwrap();
    let now: Timestamp = at(10) + SignedDuration::from_secs(1);
    let log = state::verify::log(&git, chain, Some(&tips.admitted), now).unwrap();
    let draft = fleet.draft();
    let refusal = log
        .check_next(&git, &draft.manifest, &draft.files, now)
        .unwrap_err();
    assert!(refusal.detail.starts_with("APPROVAL_MISSING"), "{refusal}");
}
