//! `agent.yaml`: who this host is, whom it asks and how it runs what it is told. Written by `agent enroll`,
//! edited by people; unknown fields are refused and every value is checked before anything is done.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use state::digest::Domain;
use state::name::{EnvironmentName, HostName, Label};
use state::unit::{Bytes, Period};
use state::{Code, Refusal, yaml};

use crate::{disk, sandbox};

/// The settings of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The host's name in its environment.
    pub host: HostName,
    /// The environment whose releases it runs.
    pub environment: EnvironmentName,
    /// The fleet.
    #[serde(with = "prefixed_domain")]
    pub domain: Domain,
    /// Where the state repository can be fetched: mirrors of each other, the preferred one first. The highest sequence
    /// that verifies wins.
    pub remotes: Vec<Remote>,
    /// Credentials for source repositories, by prefix of their URL; the longest prefix wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The time between two passes, jittered by a tenth.
    #[serde(default = "default_poll")]
    pub poll: Period,
    /// How processes run.
    #[serde(default)]
    pub runner: RunnerKind,
    /// The user of the slots; required if the agent is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The loopback ports that slots listen on.
    #[serde(default)]
    pub ports: Ports,
    /// How many builds run at once.
    #[serde(default = "default_builds")]
    pub builds: usize,
    /// How build and test commands are confined.
    #[serde(default)]
    pub sandbox: sandbox::Config,
    /// Who starts the proxy.
    #[serde(default)]
    pub proxy: ProxyMode,
    /// What `place` selects by, where the environment says `hosts: any`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Label, Label>,
}

/// One place to fetch the state repository from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Remote {
    /// `https://…`, `ssh://…`, `file:///…` or an absolute path.
    pub url: String,
    /// A file with the access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<PathBuf>,
    /// A PEM file with the only authorities to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The time that one fetch may take.
    #[serde(
        default = "default_deadline",
        skip_serializing_if = "is_default_deadline"
    )]
    pub deadline: Period,
    /// The most that this remote may send in one fetch.
    #[serde(
        default = "default_max_bytes",
        skip_serializing_if = "is_default_max_bytes"
    )]
    pub max_bytes: Bytes,
}

impl Remote {
    /// The remote at `url`, without credentials and with the usual bounds.
    pub fn new(url: String) -> Self {
        Self {
            url,
            token: None,
            ca: None,
            deadline: default_deadline(),
            max_bytes: default_max_bytes(),
        }
    }
}

/// Credentials for the source repositories below a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The start of the repositories' URLs.
    pub prefix: String,
    /// A file with the access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<PathBuf>,
    /// A PEM file with the only authorities to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// How processes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunnerKind {
    /// One small supervisor process a slot.
    #[default]
    Shim,
    /// Units of systemd.
    Systemd,
}

/// Who starts the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyMode {
    /// The agent, detached; it outlives the agent.
    #[default]
    Managed,
    /// Somebody else, such as a unit of its own.
    External,
}

/// An inclusive range of ports, written `20000-29999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            first: 20_000,
            last: 29_999,
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (first, last) = text.split_once('-')?;
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first >= 1024 && first < last).then_some(Self { first, last })
        };
        parse().ok_or("expected two ports of 1024 and above, such as 20000-29999")
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A domain as people are told it: `sha256:<64 hex>`.
mod prefixed_domain {
    use super::{Deserialize, Deserializer, Domain, Serializer};

    pub(super) fn serialize<S: Serializer>(
        domain: &Domain,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("sha256:{domain}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Domain, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_domain(&text).map_err(serde::de::Error::custom)
    }
}

/// Reads `sha256:<64 hex>`.
pub fn parse_domain(text: &str) -> Result<Domain, String> {
    text.strip_prefix("sha256:")
        .and_then(|hex| hex.parse().ok())
        .ok_or_else(|| "expected 'sha256:' and 64 lower-case hex digits".to_owned())
}

const fn default_poll() -> Period {
    Period::seconds(60)
}

const fn default_builds() -> usize {
    2
}

const fn default_deadline() -> Period {
    Period::minutes(2)
}

const fn default_max_bytes() -> Bytes {
    Bytes(256 << 20)
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_default_deadline(deadline: &Period) -> bool {
    *deadline == default_deadline()
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_default_max_bytes(bytes: &Bytes) -> bool {
    *bytes == default_max_bytes()
}

impl Config {
    /// The settings of a new host, everything else at its default.
    pub fn new(
        host: HostName,
        environment: EnvironmentName,
        domain: Domain,
        remotes: Vec<Remote>,
    ) -> Self {
        Self {
            host,
            environment,
            domain,
            remotes,
            sources: Vec::new(),
            poll: default_poll(),
            runner: RunnerKind::default(),
            user: None,
            ports: Ports::default(),
            builds: default_builds(),
            sandbox: sandbox::Config::default(),
            proxy: ProxyMode::default(),
            labels: BTreeMap::new(),
        }
    }

    /// Reads and checks the settings at `path`.
    ///
    /// # Errors
    /// `STATE_MISSING` if there is no file, `AGENT_CONFIG_INVALID`, and `UNSUPPORTED` for what this version lacks.
    pub fn load(path: &Path) -> Result<Self, Refusal> {
        let bytes = std::fs::read(path).map_err(|error| {
            let code = if error.kind() == std::io::ErrorKind::NotFound {
                Code::StateMissing
            } else {
                Code::AgentConfigInvalid
            };
            Refusal::new(code, format!("'{}': {error}", path.display()))
        })?;
        Self::parse(&bytes).map_err(|refusal| refusal.at(path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let config: Self = yaml::parse(bytes)
            .and_then(|value| yaml::typed(&value))
            .map_err(|refusal| Refusal::new(Code::AgentConfigInvalid, refusal.detail))?;
        config.check()?;
        Ok(config)
    }

    /// Writes the settings to `path`.
    pub fn save(&self, path: &Path) -> Result<(), Refusal> {
        let text = serde_yaml::to_string(self)
            .map_err(|error| Refusal::new(Code::AgentConfigInvalid, error.to_string()))?;
        disk::save(path, text.as_bytes(), 0o644)
    }

    /// Checks what the types alone do not.
    pub fn check(&self) -> Result<(), Refusal> {
        let invalid = |detail: String| Err(Refusal::new(Code::AgentConfigInvalid, detail));
        if self.runner == RunnerKind::Systemd {
            let detail = "runner: 'systemd' is not part of this version, expected 'shim'";
            return Err(Refusal::new(Code::Unsupported, detail));
        }
        if self.remotes.is_empty() {
            return invalid("remotes: none is listed, expected at least one".to_owned());
        }
        for (at, remote) in self.remotes.iter().enumerate() {
            check_url("remotes", &remote.url)?;
            if self.remotes[..at]
                .iter()
                .any(|other| other.url == remote.url)
            {
                return invalid(format!("remotes: '{}' is listed twice", remote.url));
            }
            if remote.deadline < Period(100) || remote.deadline > Period::minutes(60) {
                let deadline = remote.deadline;
                return invalid(format!(
                    "remotes: deadline: '{deadline}', expected 100ms to 1h"
                ));
            }
            if remote.max_bytes < Bytes(64 << 10) {
                let bytes = remote.max_bytes;
                return invalid(format!(
                    "remotes: maxBytes: '{bytes}', expected at least 64KiB"
                ));
            }
        }
        if self.poll < Period(10) || self.poll > Period::minutes(24 * 60) {
            return invalid(format!("poll: '{}', expected 10ms to 1d", self.poll));
        }
        if !(1..=64).contains(&self.builds) {
            return invalid(format!("builds: {}, expected 1 to 64", self.builds));
        }
        if let Some(tool) = self.sandbox.tools.iter().find(|tool| !tool.is_absolute()) {
            let shown = tool.display();
            return invalid(format!(
                "sandbox.tools: '{shown}', expected an absolute path"
            ));
        }
        Ok(())
    }

    /// The credentials for the source repository `url`: those of the longest prefix.
    pub fn source(&self, url: &str) -> Option<&Source> {
        self.sources
            .iter()
            .filter(|source| url.starts_with(&source.prefix))
            .max_by_key(|source| source.prefix.len())
    }
}

/// Refuses what no fetch could use, and a password: URLs are shown to everybody who may see the status.
fn check_url(field: &str, url: &str) -> Result<(), Refusal> {
    let invalid = |detail: String| Err(Refusal::new(Code::AgentConfigInvalid, detail));
    let known = ["https://", "ssh://", "file:///", "/"];
    let Some(start) = known.iter().find(|start| url.starts_with(**start)) else {
        return invalid(format!(
            "{field}: '{url}', expected https://, ssh://, file:/// or an absolute path"
        ));
    };
    let authority = url[start.len()..].split('/').next().unwrap_or_default();
    let secret = match authority.rsplit_once('@') {
        Some((user, _)) => *start == "https://" || (*start == "ssh://" && user.contains(':')),
        None => false,
    };
    if secret {
        let detail =
            "a URL holds a user or a password, expected them in the file that `token` names";
        return invalid(format!("{field}: {detail}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(extra: &str) -> String {
        let domain = "ab".repeat(32);
        format!(
            "host: web-1\nenvironment: prod\ndomain: sha256:{domain}\nremotes:\n- url: https://git.example.org/state.git\n{extra}"
        )
    }

    #[test]
    fn a_short_file_has_the_documented_defaults() {
        let config = Config::parse(text("").as_bytes()).unwrap();
        assert_eq!(config.poll.to_string(), "1m");
        assert_eq!(config.builds, 2);
        assert_eq!(config.ports.to_string(), "20000-29999");
        assert_eq!(config.sandbox.kind, sandbox::Kind::Bubblewrap);
        assert_eq!(config.proxy, ProxyMode::Managed);
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        let config =
            Config::parse(text("user: writ-app\nlabels: {role: web}\n").as_bytes()).unwrap();
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
    }

    #[test]
    fn every_bad_value_is_refused_by_its_field() {
        for (extra, code, part) in [
            ("runner: systemd\n", Code::Unsupported, "runner"),
            ("pool: 3s\n", Code::AgentConfigInvalid, "pool"),
            ("poll: 1ms\n", Code::AgentConfigInvalid, "poll"),
            ("ports: 80-90\n", Code::AgentConfigInvalid, "ports"),
            ("builds: 0\n", Code::AgentConfigInvalid, "builds"),
            (
                "sandbox: {tools: [rust]}\n",
                Code::AgentConfigInvalid,
                "sandbox.tools",
            ),
        ] {
            let refusal = Config::parse(text(extra).as_bytes()).unwrap_err();
            assert_eq!(refusal.code, code, "{extra}");
            assert!(refusal.detail.contains(part), "{refusal}");
        }
        let plain = text("").replace("https://", "http://");
        assert!(Config::parse(plain.as_bytes()).is_err());
    }

    #[test]
    fn a_remote_has_bounds_of_its_own_and_the_documented_defaults() {
        let extra = "- {url: /mirrors/state.git, deadline: 5s, maxBytes: 1MiB}\n";
        let config = Config::parse(text(extra).as_bytes()).unwrap();
        let bounds = config
            .remotes
            .iter()
            .map(|remote| format!("{} {}", remote.deadline, remote.max_bytes));
        assert_eq!(bounds.collect::<Vec<_>>(), ["2m 256MiB", "5s 1MiB"]);
        for bad in [
            "- {url: /a, deadline: 0s}\n",
            "- {url: /a, maxBytes: 1KiB}\n",
            "- {url: /a}\n- {url: /a}\n",
        ] {
            let refusal = Config::parse(text(bad).as_bytes()).unwrap_err();
            assert_eq!(refusal.code, Code::AgentConfigInvalid, "{bad}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_and_not_repeated() {
        for url in [
            "https://me:s3cret@x/r.git",
            "https://s3cret@x/r.git",
            "ssh://me:s3cret@x/r",
        ] {
            let refusal = Config::parse(text(&format!("- url: {url}\n")).as_bytes()).unwrap_err();
            assert_eq!(refusal.code, Code::AgentConfigInvalid, "{url}");
            assert!(!refusal.detail.contains("s3cret"), "{refusal}");
        }
        Config::parse(text("- url: ssh://git@x/r.git\n").as_bytes()).unwrap();
    }

    #[test]
    fn the_longest_prefix_gives_a_source_its_credentials() {
        let extra = "sources:\n- {prefix: 'https://git.example.org/', token: /a}\n- {prefix: 'https://git.example.org/web', token: /b}\n";
        let config = Config::parse(text(extra).as_bytes()).unwrap();
        let token = |url| config.source(url).and_then(|source| source.token.clone());
        assert_eq!(token("https://git.example.org/web.git"), Some("/b".into()));
        assert_eq!(token("https://git.example.org/api.git"), Some("/a".into()));
        assert_eq!(token("https://example.org/api.git"), None);
    }
}
