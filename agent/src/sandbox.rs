//! How the commands of builds and tests are confined: bubblewrap around each of them, or, where an operator says so,
//! nothing but an empty environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use state::unit::Bytes;

use crate::user::User;

/// `sandbox` in agent.yaml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// What confines.
    pub kind: Kind,
    /// Folders that commands may read beside the system's; the folder `bin` of each is searched for programs.
    pub tools: Vec<PathBuf>,
    /// Further variables.
    pub environment: BTreeMap<String, String>,
    /// Builds stop when the file system has less than this left.
    pub disk_floor: Bytes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            tools: Vec::new(),
            environment: BTreeMap::new(),
            disk_floor: Bytes(256 << 20),
        }
    }
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

/// Runs commands confined.
#[derive(Clone, Debug)]
pub struct Sandbox {
    config: Config,
    user: Option<User>,
}

impl Sandbox {
    /// A sandbox as configured; commands run as `user`, if there is one.
    pub fn new(config: Config, user: Option<User>) -> Self {
        Self { config, user }
    }

    /// Says whether commands are confined.
    pub fn confines(&self) -> bool {
        self.config.kind == Kind::Bubblewrap
    }

    /// The account that commands run as.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }
}
