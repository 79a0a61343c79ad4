//! The HTTP clients that fetches share, and the credentials that go with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client;
use reqwest::header::HeaderValue;
use reqwest::{Certificate, redirect};

use super::chain;
use crate::{Code, Refusal};

/// One client for each set of authorities.
#[derive(Default)]
pub(super) struct Clients(BTreeMap<Option<PathBuf>, (Vec<u8>, Client)>);

impl Clients {
    /// The client that trusts the authorities in `ca` alone, or the system's; a new one if the file has changed.
    pub(super) fn get(&mut self, ca: Option<&Path>) -> Result<Client, Refusal> {
        let pem = ca.map(read).transpose()?.unwrap_or_default();
        let key = ca.map(Path::to_owned);
        if let Some((_, client)) = self.0.get(&key).filter(|(known, _)| *known == pem) {
            return Ok(client.clone());
        }
        let client = build(ca, &pem)?;
        self.0.insert(key, (pem, client.clone()));
        Ok(client)
    }
}

fn build(ca: Option<&Path>, pem: &[u8]) -> Result<Client, Refusal> {
    let mut builder = Client::builder()
        .https_only(true)
        .http1_only()
        .no_proxy() // what the environment says must not choose who sees the traffic
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(20));
    if let Some(ca) = ca {
        let certificates = Certificate::from_pem_bundle(pem).ok();
        let certificates = certificates.filter(|all| !all.is_empty()).ok_or_else(|| {
            let detail = format!("'{}' holds no PEM certificate", ca.display());
            Refusal::new(Code::FetchFailed, detail)
        })?;
        builder = builder.tls_certs_only(certificates);
    }
    builder
        .build()
        .map_err(|error| Refusal::new(Code::FetchFailed, chain(&error)))
}

fn read(file: &Path) -> Result<Vec<u8>, Refusal> {
    std::fs::read(file)
        .map_err(|error| Refusal::new(Code::FetchFailed, format!("'{}': {error}", file.display())))
}

/// The header for a file with a token or with `user:password`. Forges take a token as the password of any user.
pub(super) fn authorization(file: &Path) -> Result<HeaderValue, Refusal> {
    let bad = || {
        Refusal::new(
            Code::FetchFailed,
            format!("'{}' holds no token", file.display()),
        )
    };
    let text = String::from_utf8(read(file)?).map_err(|_| bad())?;
    let account = match text.trim() {
        token if token.is_empty() || token.contains(char::is_whitespace) => return Err(bad()),
        token if token.contains(':') => token.to_owned(),
        token => format!("x-access-token:{token}"),
    };
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(account))).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok(value)
}
