//! What an author may change: environments, path globs, fields of overlays, rules.

use std::collections::BTreeSet;

use crate::Refusal;
use crate::key::PublicKey;
use crate::name::{EnvironmentName, Label};
use crate::tree;

/// A person or CI job with one key; one name is one person, who may have several keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Who.
    pub name: Label,
    /// With which key.
    pub key: PublicKey,
    /// Where.
    pub environments: Vec<EnvironmentScope>,
    /// Which files.
    pub paths: Vec<Glob>,
    /// Which fields of an overlay; `None`: whole files.
    pub fields: Option<Vec<Field>>,
    /// What.
    pub may: BTreeSet<Right>,
}

/// One environment, or `*`: all, and files outside `environments/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvironmentScope {
    /// `*`.
    All,
    /// One environment.
    One(EnvironmentName),
}

/// What an author may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Sign commits on `main`.
    Author,
    /// Sign approvals.
    Approve,
    /// Sign attestations.
    Attest,
    /// Change `environment.yaml` and `repository.yaml`.
    Rules,
    /// Hold releases.
    Hold,
    /// Pass a closed window in an emergency.
    Override,
}

/// A pattern of paths: `*` stands for any characters of one component, `**` for any components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// A dotted path to a field of an overlay: `source.commit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(String);

impl Author {
    /// Checks that one change lies in the author's scope.
    ///
    /// # Errors
    /// `PATH_NOT_ALLOWED`, `RULES_NOT_ALLOWED`; `CONFIG_INVALID` if a narrowed overlay is no YAML.
    pub fn check_change(&self, _change: &tree::Change) -> Result<(), Refusal> {
        todo!()
    }
}
