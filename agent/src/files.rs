//! Every durable file of an agent, with what reads and writes it: the tests hold each against what other versions write.
//! The page docs/reference/durable.md lists the same.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use state::durable::{self, Unreadable};
use state::floor::Floor;

use crate::build::Stamps;
use crate::deployment::record::Record;
use crate::journal::Entry;
use crate::remotes::exception::Glass;
use crate::runner::{Order, State};
use crate::status::Status;
use crate::traffic::table::RouteTable;

/// A durable file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Where it lies below `/var/lib/writ`; `*` stands for one name. The journal is a database of such entries.
    pub path: &'static str,
    /// Reads the content and gives what would be written back.
    pub rewrite: fn(&[u8]) -> Result<Value, Unreadable>,
}

/// All of them.
pub const ALL: [File; 9] = [
    file::<Floor>("agent/floor.json"),
    file::<Status>("agent/status.json"),
    file::<Glass>("agent/break-glass.json"),
    file::<Entry>("agent/journal"),
    file::<Record>("agent/services/*/record.json"),
    file::<Order>("agent/services/*/slots/*/order.json"),
    file::<State>("agent/services/*/slots/*/state.json"),
    file::<Stamps>("agent/services/*/cache/stamps.json"),
    file::<RouteTable>("routes/*.json"),
];

const fn file<T: Serialize + DeserializeOwned>(path: &'static str) -> File {
    File {
        path,
        rewrite: |bytes| {
            let read: T = durable::parse(bytes)?;
            serde_json::to_value(&read).map_err(|error| Unreadable::Damaged(error.to_string()))
        },
    }
}
