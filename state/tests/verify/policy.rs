//! The same steps as policy takes them: its own log, what is pushed, what it is about to sign.

use state::digest::TreeId;
use state::verify::{self, Chain, Log};
use state::{Code, Refusal};

use crate::support::{Fleet, at};

fn log(fleet: &Fleet) -> Result<Log, Refusal> {
    let (git, tips) = (fleet.git(), fleet.tips());
    let domain = verify::domain_of(&git, &tips.trust)?;
    assert_eq!(domain, fleet.domain);
    let chain = Chain::read(&git, &tips.trust, &domain)?;
    verify::log(&git, chain, Some(&tips.admitted), at(30))
}

#[test]
fn a_log_reads_back_to_its_first_entry() {
    let fleet = Fleet::with_admissions(3);
    let log = log(&fleet).unwrap();
    assert_eq!(log.junk(), None);
    assert_eq!(log.link(), fleet.last());
    let git = fleet.git();
    let mut sequences = Vec::new();
    let mut entry = log.last().cloned();
    while let Some(at) = entry {
        sequences.push(at.manifest.sequence);
        entry = at.previous(&git).unwrap();
    }
    assert_eq!(sequences, [3, 2, 1]);
}

#[test]
fn before_the_first_admission_there_is_an_empty_log() {
    let fleet = Fleet::new();
    let git = fleet.git();
    let tip = git.require("refs/heads/trust").unwrap();
    let chain = Chain::read(&git, &tip, &fleet.domain).unwrap();
    let log = verify::log(&git, chain, None, at(0)).unwrap();
    assert_eq!(log.last(), None);
    assert!(log.admitted().files.is_empty());
    let commits = log.candidate(&git, &fleet.main()).unwrap();
    assert_eq!(commits.len(), 1);
    let draft = fleet.draft();
    log.check_next(&git, &draft.manifest, &draft.files, at(2))
        .unwrap();
}

#[test]
fn junk_on_top_of_the_log_is_told_apart_from_the_log() {
    let mut fleet = Fleet::with_admissions(2);
    fleet.pin("web", 3);
    fleet.commit("alice", "three");
    fleet.admit_edited(|draft| draft.manifest.tree = TreeId([0; 32]));
    let log = log(&fleet).unwrap();
    assert_eq!(log.last().unwrap().manifest.sequence, 2);
    assert_eq!(log.junk().unwrap().code, Code::TreeMismatch);
}

#[test]
fn a_log_that_stands_on_a_bad_commit_does_not_verify() {
    let mut fleet = Fleet::with_admissions(1);
    fleet.pin("web", 2);
    fleet.commit_unsigned();
    fleet.admit();
    assert_eq!(log(&fleet).unwrap_err().code, Code::AuthorUnsigned);
}

#[test]
fn a_push_is_judged_from_the_last_admission_on() {
    let fleet = Fleet::with_admissions(2);
    let log = log(&fleet).unwrap();
    let git = fleet.git();
    assert!(log.candidate(&git, &fleet.main()).unwrap().is_empty());
    fleet.pin("web", 3);
    fleet.commit("ci", "three");
    fleet.commit("alice", "and a note");
    let commits = log.candidate(&git, &fleet.main()).unwrap();
    let subjects: Vec<_> = commits.iter().map(|commit| commit.subject()).collect();
    assert_eq!(subjects, ["three", "and a note"]);
    fleet.commit_unsigned();
    assert_eq!(
        log.candidate(&git, &fleet.main()).unwrap_err().code,
        Code::AuthorUnsigned
    );
    fleet.git_as("alice", &["reset", "-q", "--hard", "HEAD~4"]);
    fleet.commit("alice", "history rewritten");
    assert_eq!(
        log.candidate(&git, &fleet.main()).unwrap_err().code,
        Code::NotDescendant
    );
}

#[test]
fn what_an_agent_would_refuse_is_not_signed() {
    let fleet = Fleet::with_admissions(1);
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    let log = log(&fleet).unwrap();
    let check = |edit: &dyn Fn(&mut crate::support::Draft)| {
        let mut draft = fleet.draft();
        edit(&mut draft);
        log.check_next(&fleet.git(), &draft.manifest, &draft.files, at(30))
    };
    check(&|_| {}).unwrap();
    let refused = |edit: &dyn Fn(&mut crate::support::Draft), why: &str| {
        let refusal = check(edit).unwrap_err();
        assert_eq!(refusal.code, Code::SelfCheckFailed);
        assert!(refusal.detail.starts_with(why), "{refusal}");
    };
    refused(&|draft| draft.manifest.sequence = 7, "SEQUENCE_GAP");
    refused(
        &|draft| draft.manifest.tree = TreeId([0; 32]),
        "TREE_MISMATCH",
    );
    refused(
        &|draft| draft.manifest.author_tree = TreeId([0; 32]),
        "TREE_MISMATCH",
    );
    refused(&|draft| draft.manifest.changes.clear(), "CHANGE_MISMATCH");
    refused(
        &|draft| draft.manifest.author.payload.0[0] ^= 1,
        "ORIGIN_MISMATCH",
    );
    let other_release = |draft: &mut crate::support::Draft| {
        let path = "releases/prod/web.yaml";
        let (prod, web) = ("prod".parse().unwrap(), "web".parse().unwrap());
        let mut release =
            state::release::Release::from_yaml(prod, web, &draft.files[path]).unwrap();
        release.spec.keep = 9;
        draft
            .files
            .insert(path.into(), release.to_yaml().into_bytes().into());
        draft.manifest.tree = state::tree::sha256_id(&draft.files);
        draft.manifest.changes[0].to = Some(release.id());
    };
    refused(&other_release, "RENDER_MISMATCH");
}
