//! The routing table of one service: the file `routes/<service>.json` that the agent writes and the proxy reads,
//! again after every restart. Its generation only grows, so that a late writer cannot undo a later shift.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use state::file::write_atomic;
use state::name::ServiceName;
use state::refusal::{Code, Refusal};

use crate::slot::{Role, Slot};

/// Where the requests of one service go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTable {
    /// The version of this format.
    pub format: Format,
    /// The service; also the file's name.
    pub service: ServiceName,
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// The networks whose forwarding fields are believed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trust: BTreeSet<IpNet>,
    /// Grows with every change; the proxy refuses a lower one.
    pub generation: u64,
    /// The slots that exist. Without one of a weight above 0 every request is answered 503.
    pub slots: BTreeMap<Slot, Backend>,
}

/// The only format there is: 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Format;

impl From<Format> for u32 {
    fn from(_: Format) -> Self {
        1
    }
}

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        if number == 1 {
            Ok(Self)
        } else {
            Err(format!("format {number} is unknown, expected 1"))
        }
    }
}

/// The process behind a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Where it listens.
    pub address: Address,
    /// Its share of new requests, 0 to 100, relative to the other slot's; 0 gets none.
    pub weight: u16,
    /// What it is there for. The proxy only shows it.
    pub role: Role,
}

/// Where a process listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// A port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl RouteTable {
    /// The largest weight.
    pub const MAX_WEIGHT: u16 = 100;

    /// A table of generation 1 without slots.
    pub fn new(service: ServiceName, listen: SocketAddr) -> Self {
        Self {
            format: Format,
            service,
            listen,
            trust: BTreeSet::new(),
            generation: 1,
            slots: BTreeMap::new(),
        }
    }

    /// The table's file in the folder `routes`.
    pub fn path(routes: &Path, service: &ServiceName) -> PathBuf {
        routes.join(format!("{service}.json"))
    }

    /// Reads the table of `service`; `None` if there is no file.
    pub fn load(routes: &Path, service: &ServiceName) -> Result<Option<Self>, Refusal> {
        let path = Self::path(routes, service);
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(service, &bytes)
                .map(Some)
                .map_err(|refusal| refusal.at(path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Refusal::new(
                Code::RoutesInvalid,
                format!("{}: {error}", path.display()),
            )),
        }
    }

    fn parse(service: &ServiceName, bytes: &[u8]) -> Result<Self, Refusal> {
        let invalid = |detail: String| Refusal::new(Code::RoutesInvalid, detail);
        let table: Self =
            serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        if table.service != *service {
            return Err(invalid(format!(
                "the file is of service '{}'",
                table.service
            )));
        }
        for (slot, backend) in &table.slots {
            if backend.weight > Self::MAX_WEIGHT {
                return Err(invalid(format!(
                    "slot {slot}: weight {}, expected at most {}",
                    backend.weight,
                    Self::MAX_WEIGHT
                )));
            }
        }
        Ok(table)
    }

    /// Writes the table's file durably.
    pub fn save(&self, routes: &Path) -> Result<(), Refusal> {
        let path = Self::path(routes, &self.service);
        std::fs::create_dir_all(routes)
            .and_then(|()| write_atomic(&path, &self.to_json(), 0o640))
            .map_err(|error| not_written(&path, &error))
    }

    /// Removes the table's file of `service`, if there is one.
    pub fn remove(routes: &Path, service: &ServiceName) -> Result<(), Refusal> {
        let path = Self::path(routes, service);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(not_written(&path, &error))
            }
            _ => Ok(()),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("a table is plain data with text keys");
        bytes.push(b'\n');
        bytes
    }
}

fn not_written(path: &Path, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => Code::DiskFull,
        _ => Code::StateUnsafe,
    };
    Refusal::new(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> ServiceName {
        "web".parse().unwrap()
    }

    fn table() -> RouteTable {
        let mut table = RouteTable::new(web(), "127.0.0.1:8080".parse().unwrap());
        let backend = |address, weight, role| Backend {
            address,
            weight,
            role,
        };
        table.slots.insert(
            Slot::Blue,
            backend(
                Address::Tcp("127.0.0.1:20000".parse().unwrap()),
                100,
                Role::Stable,
            ),
        );
        table.slots.insert(
            Slot::Green,
            backend(
                Address::Unix("/run/writ/web/green.sock".into()),
                0,
                Role::Candidate,
            ),
        );
        table
    }

    #[test]
    fn a_table_survives_its_file() {
        let bytes = table().to_json();
        assert_eq!(RouteTable::parse(&web(), &bytes).unwrap(), table());
        let text = String::from_utf8(bytes).unwrap();
        for part in [
            r#""format": 1"#,
            r#""tcp": "127.0.0.1:20000""#,
            r#""role": "stable""#,
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_table_of_another_service_format_or_weight_is_refused() {
        let text = String::from_utf8(table().to_json()).unwrap();
        for (from, to) in [
            (r#""web""#, r#""api""#),
            (r#""format": 1"#, r#""format": 2"#),
            (r#""weight": 100"#, r#""weight": 101"#),
            (r#""generation""#, r#""generations""#),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            let refusal = RouteTable::parse(&web(), changed.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, Code::RoutesInvalid, "{to}");
        }
    }
}
