//! What a build does and what it may use.

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::unit::{Bytes, Period};

/// Commands that turn a checkout into the files of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Build {
    /// Run first, with network: downloads of what the lock file names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<Step>,
    /// Run next, without network unless `network: allow`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Files and folders of the checkout that a release keeps, each as `app/<last component>`. Empty: nothing is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// Folders of the checkout kept between builds of this service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<String>,
    /// The time within which all of `fetch` and `steps` must end.
    #[serde(skip_serializing_if = "is_twenty_minutes")]
    pub timeout: Period,
    /// Whether `steps` may use the network.
    #[serde(skip_serializing_if = "is_default")]
    pub network: Network,
    /// Bounds on what the commands of the build and of the tests may use.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: BuildLimits,
}

const TWENTY_MINUTES: Period = Period::minutes(20);

pub(super) fn is_twenty_minutes(period: &Period) -> bool {
    *period == TWENTY_MINUTES
}

impl Default for Build {
    fn default() -> Self {
        Self {
            fetch: Vec::new(),
            steps: Vec::new(),
            output: Vec::new(),
            cache: Vec::new(),
            timeout: TWENTY_MINUTES,
            network: Network::Deny,
            limits: BuildLimits::default(),
        }
    }
}

/// One command of a build or a test, run in the checkout without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// Program and arguments.
    pub run: Vec<String>,
}

/// Whether build steps share the host's network (its loopback included).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// No network at all.
    #[default]
    Deny,
    /// The host's network.
    Allow,
}

/// Bounds on a build and its tests. A field that equals its default is left out of the canonical form, as everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BuildLimits {
    /// Memory of all processes of one command together.
    #[serde(skip_serializing_if = "is_default_memory")]
    pub memory: Bytes,
    /// Processes and threads of one command.
    #[serde(skip_serializing_if = "is_default_tasks")]
    pub tasks: u32,
    /// Disk space of the checkout, the temporary files and what the caches gain.
    #[serde(skip_serializing_if = "is_default_disk")]
    pub disk: Bytes,
    /// Disk space of the outputs.
    #[serde(skip_serializing_if = "is_default_output")]
    pub output: Bytes,
    /// What is kept of each log; the rest is dropped, and the build goes on.
    #[serde(skip_serializing_if = "is_default_log")]
    pub log: Bytes,
}

impl Default for BuildLimits {
    /// Well above what compilers need, and below what takes a host from its services.
    fn default() -> Self {
        Self {
            memory: Bytes(8 << 30),
            tasks: 4096,
            disk: Bytes(32 << 30),
            output: Bytes(4 << 30),
            log: Bytes(8 << 20),
        }
    }
}

fn is_default_memory(memory: &Bytes) -> bool {
    *memory == BuildLimits::default().memory
}

fn is_default_tasks(tasks: &u32) -> bool {
    *tasks == BuildLimits::default().tasks
}

fn is_default_disk(disk: &Bytes) -> bool {
    *disk == BuildLimits::default().disk
}

fn is_default_output(output: &Bytes) -> bool {
    *output == BuildLimits::default().output
}

fn is_default_log(log: &Bytes) -> bool {
    *log == BuildLimits::default().log
}
