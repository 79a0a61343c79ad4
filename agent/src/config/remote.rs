//! Where things are fetched from: remotes of the state repository, and credentials for source repositories.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use state::unit::{Bytes, Period};
use state::{Code, Refusal, limit};

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

    /// Checks what the types alone do not.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let invalid = |detail: String| Err(Refusal::new(Code::AgentConfigInvalid, detail));
        check_url("remotes", &self.url)?;
        if (self.token.is_some() || self.ca.is_some()) && !self.url.starts_with(HTTPS) {
            let url = &self.url;
            return invalid(format!(
                "remotes: '{url}': `token` and `ca` are for https://"
            ));
        }
        let (deadline, bytes) = (self.deadline, self.max_bytes);
        if deadline < Period(100) || deadline > Period::minutes(60) {
            return invalid(format!(
                "remotes: deadline: '{deadline}', expected 100ms to 1h"
            ));
        }
        if bytes < Bytes(64 << 10) {
            return invalid(format!(
                "remotes: maxBytes: '{bytes}', expected at least 64KiB"
            ));
        }
        Ok(())
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

impl Source {
    /// Checks what the types alone do not.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let prefix = &self.prefix;
        let why = if !prefix.starts_with(HTTPS) {
            "expected the start of an https:// URL"
        } else if self.token.is_none() && self.ca.is_none() {
            "expected `token`, `ca` or both"
        } else {
            return Ok(());
        };
        let detail = format!("sources: '{prefix}': {why}");
        Err(Refusal::new(Code::AgentConfigInvalid, detail))
    }
}

/// The only scheme with credentials of ours; ssh has its own.
const HTTPS: &str = "https://";

const fn default_deadline() -> Period {
    Period::minutes(2)
}

const fn default_max_bytes() -> Bytes {
    Bytes(limit::HOST_BYTES)
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
    use crate::config::Config;
    use crate::config::tests::text;
    use state::Code;

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
            "- {url: /a, token: /t}\n",
            "- {url: \"ssh://a/b\", ca: /c}\n",
            "sources: [{prefix: https://a/}]\n",
            "sources: [{prefix: ssh://a/, token: /t}]\n",
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
}
