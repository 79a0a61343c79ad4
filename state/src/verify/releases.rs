//! Steps 9 to 13: the releases of one host, each judged alone.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::admitted::{path, place};
use crate::digest::{PayloadHash, ReleaseId};
use crate::environment::Hosts;
use crate::git::Git;
use crate::manifest::Subject;
use crate::name::{EnvironmentName, HostName, Label, ServiceName};
use crate::release::{self, Release, Rules};
use crate::{Code, Refusal};

use super::holds::Holds;
use super::intake::Intake;
use super::origins::Origins;

/// A value that passed every step. There is no other way to get one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The value, without the proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A host's own set of what it has verified: service, release, payload of the origin.
pub type Known<'a> = &'a dyn Fn(&ServiceName, &ReleaseId, &PayloadHash) -> bool;

/// Takes up again a release that this host has verified before: upkeep, rollback, start after a reboot.
///
/// # Errors
/// `STATE_UNSAFE` if the host does not know it: its file was changed.
pub fn recall(release: Release, known: Known<'_>) -> Result<Verified<Release>, Refusal> {
    let id = release.id();
    if known(&release.service, &id, &release.origin.payload) {
        return Ok(Verified(release));
    }
    let detail = format!(
        "release {id} of '{}' was never verified on this host",
        release.service
    );
    Err(Refusal::new(Code::StateUnsafe, detail))
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// The host's environment.
    pub environment: EnvironmentName,
    /// Its name.
    pub host: HostName,
    /// Its own labels, which count only where the environment says `hosts: any`.
    pub labels: BTreeMap<Label, Label>,
}

/// The releases that `host` should run, each verified or refused; a service placed elsewhere is not among them.
///
/// What is `known` was verified before and is not verified again.
///
/// # Errors
/// What refuses all of them: `ENVIRONMENT_UNKNOWN`, `HOST_UNKNOWN`, and a refusal of the environment's rules, such as
/// `RULES_NEWER`: what is not understood may restrict.
pub fn releases(
    git: &Git,
    intake: &Intake,
    host: &HostIdentity,
    known: Known<'_>,
) -> Result<BTreeMap<ServiceName, Result<Verified<Release>, Refusal>>, Refusal> {
    let mut origins = Origins::new(git, intake);
    let environment = &host.environment;
    let rules = admitted_rules(intake, environment)?;
    origins.check_rules(&rules)?;
    let labels = labels(&rules, host)?;
    let holds = Holds::of(git, intake, environment)?;
    let mut releases = BTreeMap::new();
    for (file, bytes) in &intake.admitted.files {
        let Some((at, Subject::Service(service))) = place(file) else {
            continue;
        };
        if at != *environment {
            continue;
        }
        let verified =
            Release::from_yaml(at, service.clone(), bytes).map_err(|refusal| refusal.at(file));
        match verified {
            Ok(release) if !release.spec.place.takes(labels) => continue,
            Ok(release) => {
                let judged = judge(&holds, &mut origins, release, known);
                releases.insert(service, judged.map_err(|refusal| refusal.at(file)));
            }
            Err(_) if is_elsewhere(bytes, labels) => continue,
            Err(refusal) => drop(releases.insert(service, Err(refusal))),
        }
    }
    Ok(releases)
}

/// Says whether a release that cannot be read names other hosts than one with these labels. What runs here all the same is
/// not to leave for that: whoever asks for it looks at the release himself.
fn is_elsewhere(bytes: &[u8], labels: &BTreeMap<Label, Label>) -> bool {
    release::place(bytes).is_some_and(|place| !place.takes(labels))
}

/// 12. The rules of this environment are in the tree.
fn admitted_rules(intake: &Intake, environment: &EnvironmentName) -> Result<Rules, Refusal> {
    let file = path(environment, &Subject::Rules);
    let bytes = intake.admitted.files.get(&file).ok_or_else(|| {
        let detail = format!("environment '{environment}' is not admitted");
        Refusal::new(Code::EnvironmentUnknown, detail)
    })?;
    Rules::from_yaml(environment.clone(), bytes).map_err(|refusal| refusal.at(file))
}

/// 12. The host is in the tree: its signed labels, or where any host may be, its own.
fn labels<'a>(
    rules: &'a Rules,
    host: &'a HostIdentity,
) -> Result<&'a BTreeMap<Label, Label>, Refusal> {
    let Hosts::Listed(hosts) = &rules.spec.hosts else {
        return Ok(&host.labels);
    };
    let listed = hosts.iter().find(|listed| listed.name == host.host);
    listed.map(|listed| &listed.labels).ok_or_else(|| {
        let detail = format!(
            "environment '{}' does not list host '{}'",
            host.environment, host.host
        );
        Refusal::new(Code::HostUnknown, detail)
    })
}

fn judge(
    holds: &Holds<'_>,
    origins: &mut Origins<'_>,
    release: Release,
    known: Known<'_>,
) -> Result<Verified<Release>, Refusal> {
    if !known(&release.service, &release.id(), &release.origin.payload) {
        origins.check_release(&release)?;
    }
    // 12. and 13. Held by its author or by policy.
    holds.check(&release.service)?;
    Ok(Verified(release))
}
