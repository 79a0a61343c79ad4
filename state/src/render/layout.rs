//! Which file of a state repository says what. Files outside `services/` and `environments/` are their authors' own
//! (a README, CI); inside, a file that says nothing is a mistake.

use std::collections::BTreeMap;

use crate::name::{EnvironmentName, InvalidName, ServiceName};
use crate::refusal::{Code, Refusal};
use crate::tree::Files;

/// The path of the file that names the fleet.
pub(super) const REPOSITORY: &str = "repository.yaml";

/// The path of a service's base.
pub(super) fn base(service: &ServiceName) -> String {
    format!("services/{service}/service.yaml")
}

/// The path of an environment's rules.
pub(super) fn rules(environment: &EnvironmentName) -> String {
    format!("environments/{environment}/environment.yaml")
}

/// The path of an overlay.
pub(super) fn overlay(environment: &EnvironmentName, service: &ServiceName) -> String {
    format!("environments/{environment}/{service}.yaml")
}

/// Says whether an overlay lies at `path`.
pub(super) fn is_overlay(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    matches!(parts[..], ["environments", _, file] if file.strip_suffix(".yaml").is_some_and(|name| name != "environment"))
}

/// What a tree holds.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The services that have a base.
    pub(super) services: Vec<ServiceName>,
    /// The environments, each with the services that run in it.
    pub(super) environments: BTreeMap<EnvironmentName, Vec<ServiceName>>,
}

impl Layout {
    /// Sorts the files of a tree; the second value says what is wrong with it.
    pub(super) fn of(files: &Files) -> (Self, Vec<Refusal>) {
        let mut layout = Self::default();
        let mut refusals = Vec::new();
        for path in files.keys() {
            if let Err(detail) = layout.add(path) {
                refusals.push(Refusal::new(Code::ConfigInvalid, detail).at(path));
            }
        }
        for (environment, services) in &layout.environments {
            if !files.contains_key(&rules(environment)) {
                let detail = "missing; every environment has rules";
                refusals.push(Refusal::new(Code::ConfigInvalid, detail).at(rules(environment)));
            }
            for service in services {
                if !files.contains_key(&base(service)) {
                    let detail = format!(
                        "an overlay of a service that '{}' would describe",
                        base(service)
                    );
                    let path = overlay(environment, service);
                    refusals.push(Refusal::new(Code::ConfigInvalid, detail).at(path));
                }
            }
        }
        (layout, refusals)
    }

    fn add(&mut self, path: &str) -> Result<(), String> {
        let invalid = |name: &str, error: InvalidName| format!("'{name}' is not a name: {error}");
        let parts: Vec<_> = path.split('/').collect();
        match parts[..] {
            ["services", name, "service.yaml"] => {
                let service = name.parse().map_err(|error| invalid(name, error))?;
                self.services.push(service);
            }
            ["services", ..] => {
                return Err("unexpected; `services/` holds only `<service>/service.yaml`".into());
            }
            ["environments", folder, file] if let Some(name) = file.strip_suffix(".yaml") => {
                let environment = folder.parse().map_err(|error| invalid(folder, error))?;
                let services = self.environments.entry(environment).or_default();
                if name != "environment" {
                    services.push(name.parse().map_err(|error| invalid(name, error))?);
                }
            }
            ["environments", ..] => {
                return Err("unexpected; `environments/` holds only `<environment>/environment.yaml` and `<environment>/<service>.yaml`".into());
            }
            _ => {}
        }
        Ok(())
    }
}
