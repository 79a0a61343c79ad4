//! A release: one service rendered for one environment, nothing left to decide, and its id.
//!
//! The id is the SHA-256 of the canonical form: the JSON of RFC 8785, without `origin` and without every field that
//! equals its default. So neither the spelling of a file nor a newer version of Writ changes an id.

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::digest::{ReleaseId, Sha256Hash};
use crate::environment::Environment;
use crate::name::{EnvironmentName, ServiceName};
pub use crate::origin::Origin;
use crate::refusal::{Code, Refusal};
use crate::service::{Place, Service};
use crate::yaml;

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

    /// Reads what [`Release::to_yaml`] printed.
    ///
    /// # Errors
    /// `RELEASE_NEWER` if it says something that this version does not know, which is then nothing that this version may
    /// go by; `CONFIG_INVALID` for any other spelling.
    pub fn from_yaml(
        environment: EnvironmentName,
        service: ServiceName,
        bytes: &[u8],
    ) -> Result<Self, Refusal> {
        let (origin, spec) = read(bytes, Code::ReleaseNewer)?;
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

    /// Reads what [`Rules::to_yaml`] printed.
    ///
    /// # Errors
    /// `RULES_NEWER` if they say something that this version does not know, which may forbid anything; `CONFIG_INVALID`
    /// for any other spelling.
    pub fn from_yaml(environment: EnvironmentName, bytes: &[u8]) -> Result<Self, Refusal> {
        let (origin, spec) = read(bytes, Code::RulesNewer)?;
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

fn read<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    newer: Code,
) -> Result<(Origin, T), Refusal> {
    let (origin, value) = divide(bytes)?;
    let origin = yaml::fields(&origin).map_err(|fault| fault.refusal(newer).at("origin"))?;
    let spec = yaml::fields(&value).map_err(|fault| fault.refusal(newer))?;
    check_spelling(bytes, &origin, &spec)?;
    Ok((origin, spec))
}

/// The id and the origin of a release or of rules in a file of `admitted`. They stand for all that it says, known here or
/// not: who may not go by it follows the log all the same.
///
/// # Errors
/// `CONFIG_INVALID` if it is no YAML or has no origin, and for another spelling of what is known.
pub(crate) fn identify<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
) -> Result<(ReleaseId, Origin), Refusal> {
    let (whole, value) = divide(bytes)?;
    if let (Ok(origin), Ok(spec)) = (yaml::fields(&whole), yaml::fields::<T>(&value)) {
        check_spelling(bytes, &origin, &spec)?;
    }
    let known = ["commit", "payload"].map(|field| (field, whole.get(field).cloned()));
    let known: Value = known.into_iter().collect();
    let origin = yaml::typed(&known).map_err(|refusal| refusal.at("origin"))?;
    Ok((id_of(&value), origin))
}

/// Checks that policy would print this as these bytes.
fn check_spelling<T: Serialize>(bytes: &[u8], origin: &Origin, spec: &T) -> Result<(), Refusal> {
    if print(origin, spec).as_bytes() == bytes {
        return Ok(());
    }
    let detail = "not in the exact form that policy prints";
    Err(Refusal::new(Code::ConfigInvalid, detail))
}

/// The hosts that a release names which says something that this version does not know; `None` if that cannot be told.
pub(crate) fn place(bytes: &[u8]) -> Option<Place> {
    let (_, value) = divide(bytes).ok()?;
    match value.get("place") {
        Some(place) => yaml::fields(place).ok(),
        None => Some(Place::default()),
    }
}

/// Takes a file of the branch `admitted` apart: its origin, and all the rest.
fn divide(bytes: &[u8]) -> Result<(Value, Value), Refusal> {
    let mut value = yaml::parse(bytes)?;
    let fields = value.as_object_mut();
    let origin = fields.and_then(|fields| fields.remove("origin"));
    let missing = || Refusal::new(Code::ConfigInvalid, "missing field `origin`");
    Ok((origin.ok_or_else(missing)?, value))
}

fn id<T: Serialize>(spec: &T) -> ReleaseId {
    id_of(&serde_json::to_value(spec).expect("texts and numbers have a JSON form"))
}

fn id_of(value: &Value) -> ReleaseId {
    let mut text = String::new();
    canonical(value, &mut text);
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
