//! A version that does not exist yet, for the tests of upgrades: every object has a field, and every code a name, that
//! no version knows; with `WRIT_FUTURE=formats` every format is one higher, too.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Extra, Fields, Format};

/// The field that only this version knows.
const FIELD: &str = "future";

/// What the names of codes begin with.
const CODE: &str = "FUTURE_";

/// The format that is written. Both are read, whatever the variable says: a shim is started without it.
pub(super) fn written() -> Format {
    static WRITTEN: OnceLock<Format> = OnceLock::new();
    *WRITTEN.get_or_init(|| match std::env::var("WRIT_FUTURE") {
        Ok(mode) if mode == "formats" => Format::NEWEST,
        _ => Format::FIRST,
    })
}

/// The name of a code.
pub(crate) fn code(text: &str) -> String {
    format!("{CODE}{text}")
}

/// The code that is meant by a name of this or of an earlier version.
pub(crate) fn meant(text: &str) -> &str {
    text.strip_prefix(CODE).unwrap_or(text)
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(FIELD, &BTreeMap::from([("known", [1, 2])]))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Fields::deserialize(deserializer)?;
        fields.remove(FIELD);
        Ok(Self::new(fields))
    }
}
