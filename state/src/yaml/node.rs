//! The values of a document, counted and judged while they are built.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Map, Value};

use crate::refusal::Code;

/// Maps and lists within each other.
const MAX_DEPTH: usize = 16;
/// Values after aliases are expanded.
pub(super) const MAX_NODES: usize = 100_000;
/// Bytes of text after aliases are expanded.
const MAX_TEXT: usize = 1 << 20;
/// The largest whole number that every JSON reader keeps exactly, 2^53 − 1.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// What a `null` is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    /// A mistake.
    Refused,
    /// As the value of a field: "this field of the file below goes".
    Removes,
}

/// What was read so far.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) nodes: usize,
    text: usize,
    bad_pin: bool,
}

impl Reading {
    fn node<E: de::Error>(&mut self) -> Result<(), E> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(E::custom(format_args!("more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn text<E: de::Error>(&mut self, text: &str) -> Result<(), E> {
        self.text += text.len();
        if self.text > MAX_TEXT {
            return Err(E::custom(format_args!(
                "more than {MAX_TEXT} bytes of text after expanding aliases"
            )));
        }
        if text.contains('\0') {
            return Err(E::custom("a text may not contain the character NUL"));
        }
        Ok(())
    }

    /// The code for what went wrong.
    pub(super) fn code(&self) -> Code {
        if self.bad_pin {
            Code::PinInvalid
        } else {
            Code::ConfigInvalid
        }
    }
}

/// Where a value stands, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Source,
    Pin,
    Elsewhere,
}

impl Place {
    fn field(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root, "source") => Self::Source,
            (Self::Source, "commit") => Self::Pin,
            _ => Self::Elsewhere,
        }
    }
}

/// A value that is about to be read.
pub(super) struct Node<'a> {
    reading: &'a mut Reading,
    depth: usize,
    place: Place,
    nulls: Null,
}

impl<'a> Node<'a> {
    /// The document itself.
    pub(super) fn document(reading: &'a mut Reading, nulls: Null) -> Self {
        Self {
            reading,
            depth: 0,
            place: Place::Root,
            nulls,
        }
    }

    fn child(&mut self, place: Place, nulls: Null) -> Node<'_> {
        Node {
            reading: self.reading,
            depth: self.depth + 1,
            place,
            nulls,
        }
    }

    /// Refuses a document that is no map, and what is nested too deep.
    fn enter<E: de::Error>(&self, unexpected: Unexpected<'_>) -> Result<(), E> {
        if self.place == Place::Root && unexpected != Unexpected::Map {
            return Err(E::invalid_type(unexpected, &"a map"));
        }
        if self.depth >= MAX_DEPTH && matches!(unexpected, Unexpected::Map | Unexpected::Seq) {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn integer<E: de::Error>(
        self,
        value: Value,
        magnitude: u128,
        got: Unexpected<'_>,
    ) -> Result<Value, E> {
        self.enter(got)?;
        if self.place == Place::Pin {
            return self.no_pin();
        }
        if magnitude > u128::from(MAX_INTEGER) {
            return Err(E::custom("a whole number beyond ±(2^53 − 1); quote it"));
        }
        Ok(value)
    }

    fn no_pin<E: de::Error>(self) -> Result<Value, E> {
        self.reading.bad_pin = true;
        Err(E::custom(
            "a number, expected a quoted commit id of 40 hex digits",
        ))
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.reading.node()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, a list, a text, a whole number, true or false")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.enter(Unexpected::Bool(value))?;
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.integer(value.into(), value.into(), Unexpected::Unsigned(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        let magnitude = value.unsigned_abs().into();
        self.integer(value.into(), magnitude, Unexpected::Signed(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        self.integer(Value::Null, value, Unexpected::Other("a huge number"))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        let magnitude = value.unsigned_abs();
        self.integer(Value::Null, magnitude, Unexpected::Other("a huge number"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.enter(Unexpected::Float(value))?;
        if self.place == Place::Pin {
            return self.no_pin();
        }
        Err(E::custom(
            "a number that is not whole; quote it if it is a text",
        ))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.enter(Unexpected::Other("a text"))?;
        self.reading.text(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.enter(Unexpected::Other("null"))?;
        match self.nulls {
            Null::Removes => Ok(Value::Null),
            Null::Refused => Err(E::custom("null (or nothing) is not a value here")),
        }
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Err(E::custom("the file is empty"))
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, _tagged: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("tags are not allowed"))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        self.enter(Unexpected::Seq)?;
        let mut values = Vec::new();
        while let Some(value) =
            list.next_element_seed(self.child(Place::Elsewhere, Null::Refused))?
        {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        self.enter(Unexpected::Map)?;
        let mut values = Map::new();
        while let Some(key) = map.next_key_seed(Key(self.reading))? {
            if values.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key `{key}`")));
            }
            let value = map.next_value_seed(self.child(self.place.field(&key), self.nulls))?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

/// The key of a map: a text, and not `<<`, which would merge another map in some readers.
struct Key<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as key (quote it)")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if key == "<<" {
            return Err(E::custom("merge keys (`<<`) are not allowed"));
        }
        self.0.text(key)?;
        Ok(key.to_owned())
    }
}
