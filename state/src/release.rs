//! A release: one service rendered for one environment, nothing left to decide, and its id.

#![allow(clippy::todo)]
use serde::{Deserialize, Serialize};

use crate::digest::{ObjectId, PayloadHash, ReleaseId};
use crate::environment::Environment;
use crate::name::{EnvironmentName, ServiceName};
use crate::refusal::Refusal;
use crate::service::Service;

/// The commit of `main` that a release was rendered from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Origin {
    /// Its git id: where to find it.
    pub commit: ObjectId,
    /// Its payload hash: what it is.
    pub payload: PayloadHash,
}

/// One service, rendered for one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// Where it was rendered from. Not part of the id.
    pub origin: Origin,
    /// What runs.
    pub spec: Service,
}

/// The rules of one environment; admitted and chained like a release, under the name `environment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The environment.
    pub environment: EnvironmentName,
    /// Where they were rendered from. Not part of the id.
    pub origin: Origin,
    /// The rules.
    pub spec: Environment,
}

impl Release {
    /// The release's id: the SHA-256 of its canonical form.
    pub fn id(&self) -> ReleaseId {
        todo!()
    }

    /// The file `releases/<environment>/<service>.yaml`.
    pub fn to_yaml(&self) -> String {
        todo!()
    }

    /// Reads what [`Release::to_yaml`] printed, and nothing else.
    pub fn from_yaml(
        environment: EnvironmentName,
        service: ServiceName,
        bytes: &[u8],
    ) -> Result<Self, Refusal> {
        let _ = (environment, service, bytes);
        todo!()
    }
}

impl Rules {
    /// The rules' id: the SHA-256 of their canonical form.
    pub fn id(&self) -> ReleaseId {
        todo!()
    }

    /// The file `releases/<environment>/environment.yaml`.
    pub fn to_yaml(&self) -> String {
        todo!()
    }

    /// Reads what [`Rules::to_yaml`] printed, and nothing else.
    pub fn from_yaml(environment: EnvironmentName, bytes: &[u8]) -> Result<Self, Refusal> {
        let _ = (environment, bytes);
        todo!()
    }
}
