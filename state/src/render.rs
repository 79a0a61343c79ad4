//! stub
#![allow(clippy::todo, clippy::needless_pass_by_value)]
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::environment::Repository;
use crate::name::{EnvironmentName, ServiceName};
use crate::refusal::Refusal;
use crate::release::{Origin, Release, Rules};

/// The files of a tree by their path; [`crate::tree::Snapshot::files`].
pub type Files = BTreeMap<String, Arc<[u8]>>;

/// Everything that a tree renders to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// One release for every overlay.
    pub releases: BTreeMap<(EnvironmentName, ServiceName), Release>,
    /// The rules of every environment.
    pub rules: BTreeMap<EnvironmentName, Rules>,
}

/// Renders a whole tree; refuses with all that is wrong with it, sorted by file.
pub fn all(files: &Files, origin: &Origin) -> Result<Rendered, Vec<Refusal>> {
    let _ = (files, origin);
    todo!()
}

/// Renders one service for one environment, from exactly three files.
pub fn one(
    files: &Files,
    environment: &EnvironmentName,
    service: &ServiceName,
    origin: &Origin,
) -> Result<Release, Refusal> {
    let _ = (files, environment, service, origin);
    todo!()
}

/// Renders the rules of one environment.
pub fn rules(
    files: &Files,
    environment: &EnvironmentName,
    origin: &Origin,
) -> Result<Rules, Refusal> {
    let _ = (files, environment, origin);
    todo!()
}

/// Reads `repository.yaml`.
pub fn repository(files: &Files) -> Result<Repository, Refusal> {
    let _ = files;
    todo!()
}
