//! `sandbox` in agent.yaml.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `sandbox` in agent.yaml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// What confines.
    pub kind: Kind,
    /// Folders that commands may read beside the system's; the folder `bin` of each is searched for programs.
    pub tools: Vec<PathBuf>,
    /// Further variables.
    pub environment: BTreeMap<String, String>,
}

/// What confines the commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// bubblewrap.
    #[default]
    Bubblewrap,
    /// Nothing: status says that this host's builds are not confined.
    None,
}
