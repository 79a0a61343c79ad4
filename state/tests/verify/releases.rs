//! Steps 12 and 13, and the order of one host's releases.

use std::collections::BTreeMap;

use state::Code;
use state::release::Release;
use state::verify::{self, HostIdentity};

use crate::support::{Fleet, Host, identity, web_refused};

/// Edits the admitted release of `web` so that policy's statement about it is consistent.
fn admit_other_release(fleet: &mut Fleet, edit: impl FnOnce(&mut Release)) {
    fleet.admit_edited(|draft| {
        let path = "releases/prod/web.yaml";
        let (prod, web) = ("prod".parse().unwrap(), "web".parse().unwrap());
        let mut release = Release::from_yaml(prod, web, &draft.files[path]).unwrap();
        edit(&mut release);
        draft
            .files
            .insert(path.into(), release.to_yaml().into_bytes().into());
        draft.manifest.tree = state::tree::sha256_id(&draft.files);
        let mut changes = draft.manifest.changes.iter_mut();
        changes
            .find(|change| change.subject.as_str() == "web")
            .unwrap()
            .to = Some(release.id());
    });
}

#[test]
fn what_main_asks_for_and_policy_admitted_is_verified() {
    let fleet = Fleet::with_admissions(3);
    let releases = Host::of(&fleet).releases(&fleet).unwrap();
    assert_eq!(
        releases
            .keys()
            .map(|name| name.as_str())
            .collect::<Vec<_>>(),
        ["web"]
    );
    let web = releases["web"].as_ref().unwrap();
    assert_eq!(web.spec.source.commit.0, [3; 20]);
    assert_eq!(web.origin.commit, fleet.main());
}

#[test]
fn a_release_that_main_does_not_render_to_is_refused() {
    let mut fleet = Fleet::new();
    admit_other_release(&mut fleet, |release| release.spec.keep = 9);
    assert_eq!(web_refused(&fleet), Code::RenderMismatch);
}

#[test]
fn rules_that_main_does_not_render_to_refuse_everything() {
    let mut fleet = Fleet::new();
    fleet.admit_edited(|draft| {
        let path = "releases/prod/environment.yaml";
        let prod = "prod".parse().unwrap();
        let mut rules = state::release::Rules::from_yaml(prod, &draft.files[path]).unwrap();
        rules.spec.max_removals = 9;
        draft
            .files
            .insert(path.into(), rules.to_yaml().into_bytes().into());
        draft.manifest.tree = state::tree::sha256_id(&draft.files);
        let mut changes = draft.manifest.changes.iter_mut();
        changes
            .find(|change| change.subject.as_str() == "environment")
            .unwrap()
            .to = Some(rules.id());
    });
    let refusal = Host::of(&fleet).releases(&fleet).unwrap_err();
    assert_eq!(refusal.code, Code::RenderMismatch);
}

#[test]
fn a_release_from_a_commit_that_policy_did_not_admit_is_refused() {
    let mut fleet = Fleet::with_admissions(1);
    // Never changed since, so that no change line tells its origin: the first manifest is where it must be.
    let other = fleet.commit("alice", "a commit between two admissions");
    fleet.pin("web", 2);
    fleet.commit("alice", "two");
    fleet.admit();
    let mut host = Host::of(&fleet);
    let intake = host.intake(&fleet).unwrap();
    assert!(intake.manifest().author.commit != other);
    assert!(host.releases(&fleet).unwrap()["web"].is_ok());
}

#[test]
fn a_known_release_is_not_verified_again_and_recall_gives_it_back() {
    let mut fleet = Fleet::new();
    admit_other_release(&mut fleet, |release| release.spec.keep = 9);
    let mut host = Host::of(&fleet);
    let intake = host.intake(&fleet).unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    let known = |service: &state::name::ServiceName, id: &_, payload: &_| {
        asked.borrow_mut().push((service.clone(), *id, *payload));
        true
    };
    let releases = verify::releases(&fleet.git(), &intake, &identity(), &known).unwrap();
    let web = releases["web"].clone().unwrap();
    assert_eq!(
        *asked.borrow(),
        [("web".parse().unwrap(), web.id(), web.origin.payload)]
    );
    assert_eq!(verify::recall(web.get().clone(), &known).unwrap(), web);
    let refusal = verify::recall(web.into_inner(), &|_, _, _| false).unwrap_err();
    assert_eq!(refusal.code, Code::StateUnsafe);
}

/// The services that a host with this name and these labels gets, or the code of the refusal.
fn placed(rules: &str, host: &str, labels: &[(&str, &str)]) -> Result<Vec<String>, Code> {
    let mut fleet = Fleet::new();
    fleet.write("environments/prod/environment.yaml", rules);
    let text = format!(
        "source: {{ commit: \"{}\" }}\nplace: {{ labels: {{ role: web }} }}\n",
        "1".repeat(40)
    );
    fleet.write("environments/prod/web.yaml", &text);
    fleet.commit("alice", "placed");
    fleet.admit();
    let intake = Host::of(&fleet).intake(&fleet).unwrap();
    let labels = labels
        .iter()
        .map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap()));
    let identity = HostIdentity {
        environment: "prod".parse().unwrap(),
        host: host.parse().unwrap(),
        labels: labels.collect::<BTreeMap<_, _>>(),
    };
    let releases = verify::releases(&fleet.git(), &intake, &identity, &|_, _, _| false);
    let releases = releases.map_err(|refusal| refusal.code)?;
    Ok(releases.keys().map(ToString::to_string).collect())
}

#[test]
fn a_service_goes_where_its_labels_are() {
    assert_eq!(
        placed("hosts: any\n", "web-1", &[("role", "web")]).unwrap(),
        ["web"]
    );
    assert!(
        placed("hosts: any\n", "web-1", &[("role", "db")])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_listed_host_has_the_labels_of_the_list_and_not_its_own() {
    let rules = "hosts: [ { name: web-1, labels: { role: web } }, { name: db-1 } ]\n";
    assert_eq!(placed(rules, "web-1", &[]).unwrap(), ["web"]);
    assert!(
        placed(rules, "db-1", &[("role", "web")])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_host_that_is_not_listed_and_an_environment_that_is_not_admitted_get_nothing() {
    assert_eq!(
        placed("hosts: [ { name: web-2 } ]\n", "web-1", &[]),
        Err(Code::HostUnknown)
    );
    let fleet = Fleet::with_admissions(1);
    let intake = Host::of(&fleet).intake(&fleet).unwrap();
    let mut identity = identity();
    identity.environment = "staging".parse().unwrap();
    let refusal = verify::releases(&fleet.git(), &intake, &identity, &|_, _, _| false).unwrap_err();
    assert_eq!(refusal.code, Code::EnvironmentUnknown);
}
