//! The routing table of one service: the file `routes/<service>.json` that the agent writes and the proxy reads,
//! again after every restart. Its generation only grows, so that a late writer cannot undo a later shift.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use state::durable::{self, Extra, Format, Unreadable};
use state::file::write_atomic;
use state::name::ServiceName;
use state::refusal::{Code, Refusal};

use crate::slot::{Role, Slot};

/// Where the requests of one service go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    /// The format of the file.
    #[serde(default)]
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
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The process behind a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Where it listens.
    pub address: Address,
    /// Its share of new requests, 0 to 100, relative to the other slot's; 0 gets none.
    pub weight: u16,
    /// What it is there for. The proxy only shows it.
    pub role: Role,
    /// What a newer version noted.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Backend {
    /// Says whether both stand for the same requests to the same process, whatever a newer version noted.
    pub fn is(&self, other: &Self) -> bool {
        (&self.address, self.weight, self.role) == (&other.address, other.weight, other.role)
    }
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
            format: Format::current(),
            service,
            listen,
            trust: BTreeSet::new(),
            generation: 1,
            slots: BTreeMap::new(),
            extra: Extra::default(),
        }
    }

    /// Says whether both send the same requests to the same processes, whatever a newer version noted.
    pub fn is(&self, other: &Self) -> bool {
        let slots = self.slots.iter().zip(&other.slots);
        (&self.service, self.listen, self.generation)
            == (&other.service, other.listen, other.generation)
            && self.slots.len() == other.slots.len()
            && slots
                .into_iter()
                .all(|(one, two)| one.0 == two.0 && one.1.is(two.1))
    }

    /// Takes over what a newer version noted in the table `before`, of the same service.
    pub fn keep_extra(&mut self, before: &Self) {
        self.extra = before.extra.clone();
        for (slot, backend) in &mut self.slots {
            let known = before.slots.get(slot);
            if let Some(known) = known.filter(|known| known.address == backend.address) {
                backend.extra = known.extra.clone();
            }
        }
    }

    /// Leaves out what only a newer version understands.
    pub fn drop_extra(&mut self) {
        self.extra = Extra::default();
        for backend in self.slots.values_mut() {
            backend.extra = Extra::default();
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
                .map_err(|why| why.refuse(&path, Code::RoutesInvalid)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Refusal::new(
                Code::RoutesInvalid,
                format!("{}: {error}", path.display()),
            )),
        }
    }

    fn parse(service: &ServiceName, bytes: &[u8]) -> Result<Self, Unreadable> {
        let invalid = Unreadable::Damaged;
        let table: Self = durable::parse(bytes)?;
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
    ///
    /// # Errors
    /// `STATE_NEWER` if a newer version wrote the one that is there, `DISK_FULL`, `STATE_UNSAFE`.
    pub fn save(&self, routes: &Path) -> Result<(), Refusal> {
        let path = Self::path(routes, &self.service);
        durable::check_file(&path)?;
        std::fs::create_dir_all(routes)
            .and_then(|()| write_atomic(&path, &self.to_json(), 0o640))
            .map_err(|error| not_written(&path, &error))
    }

    /// Removes the table's file of `service`, if there is one.
    ///
    /// # Errors
    /// `STATE_NEWER` if a newer version wrote it, `STATE_UNSAFE`.
    pub fn remove(routes: &Path, service: &ServiceName) -> Result<(), Refusal> {
        let path = Self::path(routes, service);
        durable::check_file(&path)?;
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
            extra: Extra::default(),
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
    fn a_table_of_another_service_or_weight_is_refused_and_a_newer_one_told_apart() {
        let text = String::from_utf8(table().to_json()).unwrap();
        for (from, to) in [
            (r#""web""#, r#""api""#),
            (r#""weight": 100"#, r#""weight": 101"#),
            (r#""generation""#, r#""generations""#),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            let read = RouteTable::parse(&web(), changed.as_bytes());
            assert!(matches!(read, Err(Unreadable::Damaged(_))), "{to}");
        }
        let newer = text.replace(r#""format": 1"#, r#""format": 2"#);
        let read = RouteTable::parse(&web(), newer.as_bytes());
        assert!(matches!(read, Err(Unreadable::Newer(_))));
    }
}
