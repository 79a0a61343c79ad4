//! From the files of a tree to releases: defaults of the environment, below the base of the service, below the overlay.
//!
//! Pure: the same files give the same releases, for policy that signs them and for every agent that renders again. An
//! overlay makes a service run in an environment; a base without one is a service that runs nowhere yet.

mod check;
mod fleet;
mod hold;
mod layers;
mod layout;
mod merge;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::environment::{Environment, Repository};
use crate::name::{EnvironmentName, ServiceName};
use crate::refusal::{Code, Refusal};
use crate::release::{Origin, Release, Rules};
use crate::tree::Files;
use crate::yaml::{self, Fault};

pub use fleet::{collide, listens};
pub use hold::{Holds, changes_hold, hold, holds};

use layers::Layer;
use layout::Layout;

/// Everything that a tree renders to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// One release for every overlay.
    pub releases: BTreeMap<(EnvironmentName, ServiceName), Release>,
    /// The rules of every environment.
    pub rules: BTreeMap<EnvironmentName, Rules>,
    /// What authors hold; nothing of it is part of a release.
    pub holds: Holds,
}

/// Renders a whole tree, or says all that is wrong with it, sorted by file. It is what its author is writing: a field that
/// is unknown is `CONFIG_INVALID`.
pub fn all(files: &Files, origin: &Origin) -> Result<Rendered, Vec<Refusal>> {
    let (layout, mut refusals) = Layout::of(files);
    let mut rendered = Rendered::default();
    refusals.extend(repository(files).err());
    let mut bases = BTreeMap::new();
    for service in &layout.services {
        match Layer::base(files, service) {
            Ok(base) => drop(bases.insert(service, base)),
            Err(refusal) => refusals.push(refusal),
        }
    }
    for (name, services) in &layout.environments {
        // A file that is missing was told by the layout.
        if files.contains_key(&layout::rules(name)) {
            match environment(files, name, services, &bases, origin) {
                Ok(found) => {
                    let place = |service: &ServiceName| (name.clone(), service.clone());
                    let releases = found.releases.into_iter();
                    let holds = found.holds.into_iter();
                    rendered.rules.insert(name.clone(), found.rules);
                    rendered
                        .releases
                        .extend(releases.map(|release| (place(&release.service), release)));
                    rendered
                        .holds
                        .extend(holds.map(|(service, reason)| (place(&service), reason)));
                }
                Err(found) => refusals.extend(found),
            }
        }
    }
    let mut refusals: Vec<_> = refusals.into_iter().map(Refusal::of_draft).collect();
    refusals.sort_by(|a, b| a.detail.cmp(&b.detail));
    refusals.dedup();
    if refusals.is_empty() {
        Ok(rendered)
    } else {
        Err(refusals)
    }
}

/// Renders one service for one environment, from exactly three files.
///
/// # Errors
/// `RELEASE_NEWER` or `RULES_NEWER` if one of them says what this version does not know; `CONFIG_INVALID`, `PIN_INVALID`.
pub fn one(
    files: &Files,
    environment: &EnvironmentName,
    service: &ServiceName,
    origin: &Origin,
) -> Result<Release, Refusal> {
    let rules = rules(files, environment, origin)?;
    let defaults = Layer::defaults(&rules)?;
    let base = Layer::base(files, service)?;
    let overlay = Layer::overlay(files, environment, service)?;
    layers::release(&rules, service, [&defaults, &base, &overlay], origin)
        .map_err(|mut refusals| refusals.swap_remove(0))
}

/// Renders the rules of one environment.
///
/// # Errors
/// `RULES_NEWER` if they say what this version does not know; `CONFIG_INVALID`.
pub fn rules(
    files: &Files,
    environment: &EnvironmentName,
    origin: &Origin,
) -> Result<Rules, Refusal> {
    let path = layout::rules(environment);
    let value = parse(files, &path)?;
    if let Some(fault) = fleet::later(&value) {
        return Err(Refusal::new(Code::Unsupported, fault.to_string()).at(&path));
    }
    let spec: Environment =
        yaml::fields(&value).map_err(|fault| fault.refusal(Code::RulesNewer).at(&path))?;
    fleet::rules(&spec).map_err(|fault| refusal(&path, &fault))?;
    Ok(Rules {
        environment: environment.clone(),
        origin: origin.clone(),
        spec,
    })
}

/// Reads `repository.yaml`.
///
/// # Errors
/// `RULES_NEWER` if it says what this version does not know, as rules do; `CONFIG_INVALID`.
pub fn repository(files: &Files) -> Result<Repository, Refusal> {
    let path = layout::REPOSITORY;
    let value = parse(files, path)?;
    // First of all, because the fields of another format are unknown.
    if let Some(format) = value.get("format").filter(|format| **format != 1) {
        let message = format!("{format}, this version of Writ reads 1");
        let code = match format.as_u64() > Some(1) {
            true => Code::RulesNewer,
            false => Code::ConfigInvalid,
        };
        let fault = Fault::new("format", message);
        return Err(Refusal::new(code, fault.to_string()).at(path));
    }
    yaml::fields(&value).map_err(|fault| fault.refusal(Code::RulesNewer).at(path))
}

/// One environment, rendered.
struct Found {
    rules: Rules,
    releases: Vec<Release>,
    holds: Vec<(ServiceName, String)>,
}

/// Renders the rules and all services of one environment.
fn environment(
    files: &Files,
    name: &EnvironmentName,
    services: &[ServiceName],
    bases: &BTreeMap<&ServiceName, Layer>,
    origin: &Origin,
) -> Result<Found, Vec<Refusal>> {
    let rules = rules(files, name, origin).map_err(|refusal| vec![refusal])?;
    let defaults = Layer::defaults(&rules).map_err(|refusal| vec![refusal])?;
    let (mut releases, mut holds) = (Vec::new(), Vec::new());
    let mut refusals = Vec::new();
    for service in services {
        let overlay = Layer::overlay(files, name, service).map_err(|refusal| vec![refusal]);
        // A base that is missing or does not parse was told already, once for all environments.
        let release = match (overlay, bases.get(service)) {
            (Err(found), _) => Err(found),
            (Ok(_), None) => continue,
            (Ok(overlay), Some(base)) => {
                let hold = overlay.hold.clone();
                holds.extend(hold.map(|reason| (service.clone(), reason)));
                layers::release(&rules, service, [&defaults, base, &overlay], origin)
            }
        };
        match release {
            Ok(release) => releases.push(release),
            Err(found) => refusals.extend(found),
        }
    }
    let mut faults = fleet::collisions(&rules.spec, &releases);
    // Without those that did not render, what is needed could seem to be missing.
    if refusals.is_empty() {
        faults.extend(fleet::needs(&releases));
    }
    for (release, fault) in faults {
        refusals.push(refusal(&layout::overlay(name, &release.service), &fault));
    }
    if refusals.is_empty() {
        Ok(Found {
            rules,
            releases,
            holds,
        })
    } else {
        Err(refusals)
    }
}

fn refusal(path: &str, fault: &Fault) -> Refusal {
    fault.refusal(Code::ReleaseNewer).at(path)
}

fn file<'a>(files: &'a Files, path: &str) -> Result<&'a [u8], Refusal> {
    let bytes = files.get(path).map(AsRef::as_ref);
    bytes.ok_or_else(|| refusal(path, &Fault::new("", "missing")))
}

/// Parses a file that is not laid over another.
fn parse(files: &Files, path: &str) -> Result<Value, Refusal> {
    yaml::parse(file(files, path)?).map_err(|refusal| refusal.at(path))
}

#[cfg(test)]
mod tests;
