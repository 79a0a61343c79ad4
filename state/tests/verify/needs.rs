//! Step 12: what a service needs was admitted with it, or before.

use state::Code;
use state::manifest::Subject;
use state::verify;

use crate::support::{Draft, Fleet, Host, at, web_refused};

/// A fleet of which `api` is admitted at version 1, then `api` at `api` and `web`, which needs it, are on `main`.
fn fleet(api: u8) -> Fleet {
    let mut fleet = Fleet::new();
    let base = "source: { repository: /srv/api.git, branch: main }\nrun: { command: [ ./api ] }\n";
    fleet.write("services/api/service.yaml", base);
    fleet.pin("api", 1);
    fleet.commit("alice", "api");
    fleet.admit();
    let overlay = std::fs::read_to_string(fleet.path("state/environments/prod/web.yaml")).unwrap();
    fleet.pin("api", api);
    fleet.write(
        "environments/prod/web.yaml",
        &format!("{overlay}needs: [ api ]\n"),
    );
    fleet.commit("alice", "web needs api");
    fleet
}

/// Leaves the change of a service out of what is admitted.
fn without(draft: &mut Draft, before: &state::tree::Files, name: &str) {
    let subject: Subject = name.parse().unwrap();
    draft
        .manifest
        .changes
        .retain(|change| change.subject != subject);
    let path = format!("releases/prod/{name}.yaml");
    draft.files.insert(path.clone(), before[&path].clone());
    draft.manifest.tree = state::tree::sha256_id(&draft.files);
}

#[test]
fn a_release_is_believed_with_what_it_needs() {
    for api in [1, 2] {
        let mut fleet = fleet(api);
        fleet.admit();
        let releases = Host::of(&fleet).releases(&fleet).unwrap();
        assert!(releases["web"].is_ok(), "{releases:?}");
        // What became of `api` later is another matter.
        fleet.pin("api", 3);
        fleet.commit("alice", "another api");
        fleet.admit();
        let releases = Host::of(&fleet).releases(&fleet).unwrap();
        assert!(releases["web"].is_ok(), "{releases:?}");
    }
}

#[test]
fn a_release_without_what_it_needs_is_refused() {
    let mut fleet = fleet(2);
    let admitted = {
        let git = fleet.git();
        let entry = verify::Entry::read(&git, &fleet.tips().admitted).unwrap();
        let limits = state::tree::Limits {
            files: 100,
            bytes: state::unit::Bytes(1 << 20),
        };
        state::tree::read(&git, &entry.tree, &limits).unwrap().files
    };
    let log = {
        let (git, tips) = (fleet.git(), fleet.tips());
        let chain = verify::Chain::read(&git, &tips.trust, &fleet.domain).unwrap();
        verify::log(&git, chain, Some(&tips.admitted), at(30)).unwrap()
    };
    let mut draft = fleet.draft();
    without(&mut draft, &admitted, "api");
    let refusal = log
        .check_next(&fleet.git(), &draft.manifest, &draft.files, at(30))
        .unwrap_err();
    assert!(
        refusal.code == Code::SelfCheckFailed && refusal.detail.starts_with("NEEDS_UNMET"),
        "{refusal}"
    );
    fleet.admit_drafted(draft);
    assert_eq!(web_refused(&fleet), Code::NeedsUnmet);
    // That it is there now does not mend the order.
    fleet.admit();
    assert_eq!(web_refused(&fleet), Code::NeedsUnmet);
}
