//! A release: one service rendered for one environment, nothing left to decide, and its id.
//!
//! The id is the SHA-256 of the canonical form: the JSON of RFC 8785, without `origin` and without every field that
//! equals its default. So neither the spelling of a file nor a newer version of Writ changes an id.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{ObjectId, PayloadHash, ReleaseId, Sha256Hash};
use crate::environment::Environment;
use crate::name::{EnvironmentName, ServiceName};
use crate::refusal::{Code, Refusal};
use crate::service::Service;
use crate::yaml;

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
    /// The release's id: the SHA-256 of its canonical form. It does not depend on the names of service and environment.
    pub fn id(&self) -> ReleaseId {
        id(&self.spec)
    }

    /// Prints the file `releases/<environment>/<service>.yaml`: the origin, then the service, each field in its order.
    pub fn to_yaml(&self) -> String {
        print(&self.origin, &self.spec)
    }

    /// Reads what [`Release::to_yaml`] printed, and refuses any other spelling of it as `CONFIG_INVALID`.
    pub fn from_yaml(
        environment: EnvironmentName,
        service: ServiceName,
        bytes: &[u8],
    ) -> Result<Self, Refusal> {
        let (origin, spec) = read(bytes)?;
        Ok(Self {
            service,
            environment,
            origin,
            spec,
        })
    }
}

impl Rules {
    /// The rules' id: the SHA-256 of their canonical form.
    pub fn id(&self) -> ReleaseId {
        id(&self.spec)
    }

    /// Prints the file `releases/<environment>/environment.yaml`.
    pub fn to_yaml(&self) -> String {
        print(&self.origin, &self.spec)
    }

    /// Reads what [`Rules::to_yaml`] printed, and refuses any other spelling of it as `CONFIG_INVALID`.
    pub fn from_yaml(environment: EnvironmentName, bytes: &[u8]) -> Result<Self, Refusal> {
        let (origin, spec) = read(bytes)?;
        Ok(Self {
            environment,
            origin,
            spec,
        })
    }
}

/// A file of the branch `admitted`.
#[derive(Serialize)]
struct Printed<'a, T> {
    origin: &'a Origin,
    #[serde(flatten)]
    spec: &'a T,
}

fn print<T: Serialize>(origin: &Origin, spec: &T) -> String {
    serde_yaml::to_string(&Printed { origin, spec }).expect("texts and numbers have a YAML form")
}

fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<(Origin, T), Refusal> {
    let refuse = |detail: &str| Refusal::new(Code::ConfigInvalid, detail);
    let mut value = yaml::parse(bytes)?;
    let fields = value.as_object_mut();
    let origin = fields.and_then(|fields| fields.remove("origin"));
    let origin = yaml::typed(&origin.ok_or_else(|| refuse("missing field `origin`"))?)
        .map_err(|refusal| refusal.at("origin"))?;
    let spec = yaml::typed(&value)?;
    if print(&origin, &spec).as_bytes() != bytes {
        return Err(refuse("not in the exact form that policy prints"));
    }
    Ok((origin, spec))
}

fn id<T: Serialize>(spec: &T) -> ReleaseId {
    let value = serde_json::to_value(spec).expect("texts and numbers have a JSON form");
    let mut text = String::new();
    canonical(&value, &mut text);
    ReleaseId(Sha256Hash::of(text.as_bytes()).0)
}

/// Appends the canonical form of RFC 8785: no blanks, keys in the order of their UTF-16 code units. serde_json escapes
/// texts as the RFC does; numbers are whole and below 2^53, so their decimal digits are canonical.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (n, (key, item)) in fields.into_iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                canonical(&Value::from(key.as_str()), text);
                text.push(':');
                canonical(item, text);
            }
            text.push('}');
        }
        scalar => write!(text, "{scalar}").expect("a String takes what it is given"),
    }
}

#[cfg(test)]
mod tests;
