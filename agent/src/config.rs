//! `agent.yaml`: who this host is, whom it asks and how it runs what it is told. Written by `agent enroll`,
//! edited by people; unknown fields are refused and every value is checked before anything is done.

mod limits;
mod ports;
mod remote;
pub mod sandbox;
mod users;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use state::digest::Domain;
use state::name::{EnvironmentName, HostName, Label};
use state::unit::Period;
use state::{Code, Refusal, yaml};

pub use self::limits::{Limits, MOST_PER_HOUR};
pub use self::ports::Ports;
pub use self::remote::{Remote, Source};
pub use self::users::Users;
use crate::disk;

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
    /// The accounts of services and builds, two for each service; required if the agent is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Users>,
    /// The loopback ports that slots listen on.
    #[serde(default)]
    pub ports: Ports,
    /// How many builds run at once.
    #[serde(default = "default_builds")]
    pub builds: usize,
    /// What this host does at most, whatever is admitted.
    #[serde(default, skip_serializing_if = "is_default_limits")]
    pub limits: Limits,
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

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_default_limits(limits: &Limits) -> bool {
    *limits == Limits::default()
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
            users: None,
            ports: Ports::default(),
            builds: default_builds(),
            limits: Limits::default(),
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
        let invalid = |refusal: Refusal| Refusal::new(Code::AgentConfigInvalid, refusal.detail);
        let value = yaml::parse(bytes).map_err(invalid)?;
        if value.get("user").is_some() {
            let detail = "user: services have accounts of their own now; write `users: 70000-79999`, or another range that is free on this host, instead";
            return Err(Refusal::new(Code::AgentConfigInvalid, detail));
        }
        let config: Self = yaml::typed(&value).map_err(invalid)?;
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
            remote.check()?;
            if self.remotes[..at]
                .iter()
                .any(|other| other.url == remote.url)
            {
                return invalid(format!("remotes: '{}' is listed twice", remote.url));
            }
        }
        self.sources.iter().try_for_each(Source::check)?;
        if self.poll < Period(10) || self.poll > Period::minutes(24 * 60) {
            return invalid(format!("poll: '{}', expected 10ms to 1d", self.poll));
        }
        if !(1..=64).contains(&self.builds) {
            return invalid(format!("builds: {}, expected 1 to 64", self.builds));
        }
        self.limits.check()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a short agent.yaml, with more lines; `remotes` is its last field.
    pub(super) fn text(extra: &str) -> String {
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
        assert_eq!(config.limits.cooldown.to_string(), "5s");
        assert_eq!(config.limits.per_hour, 60);
        assert_eq!(config.limits.disk_floor.to_string(), "256MiB");
        assert_eq!(config.ports.to_string(), "20000-29999");
        assert_eq!(config.sandbox.kind, sandbox::Kind::Bubblewrap);
        assert_eq!(config.proxy, ProxyMode::Managed);
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        let config =
            Config::parse(text("users: 70000-79999\nlabels: {role: web}\n").as_bytes()).unwrap();
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
            (
                "user: writ-app\n",
                Code::AgentConfigInvalid,
                "`users: 70000-79999`",
            ),
            ("users: 61000-61200\n", Code::AgentConfigInvalid, "users"),
            ("builds: 0\n", Code::AgentConfigInvalid, "builds"),
            (
                "limits: {cooldown: 2d}\n",
                Code::AgentConfigInvalid,
                "limits.cooldown",
            ),
            (
                "limits: {perHour: 0}\n",
                Code::AgentConfigInvalid,
                "limits.perHour",
            ),
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
    fn the_longest_prefix_gives_a_source_its_credentials() {
        let extra = "sources:\n- {prefix: 'https://git.example.org/', token: /a}\n- {prefix: 'https://git.example.org/web', token: /b}\n";
        let config = Config::parse(text(extra).as_bytes()).unwrap();
        let token = |url| config.source(url).and_then(|source| source.token.clone());
        assert_eq!(token("https://git.example.org/web.git"), Some("/b".into()));
        assert_eq!(token("https://git.example.org/api.git"), Some("/a".into()));
        assert_eq!(token("https://example.org/api.git"), None);
    }
}
