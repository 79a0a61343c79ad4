//! YAML as people write it, within bounds: one UTF-8 document of at most 256 KiB, 16 levels and 100,000 nodes, made of
//! maps, lists, texts, whole numbers and truth values, and nothing that reads one way and means another.
//!
//! serde_yaml parses; the visitor here decides what may pass while the values are built, so that an alias bomb ends at
//! the first node too many. The result is a [`Value`], in which enums are plain maps with one key.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess};
use serde::de::{SeqAccess, Unexpected, Visitor};
use serde::{Deserialize as _, Deserializer};
use serde_json::{Map, Value};

use crate::refusal::{Code, Refusal};

/// The longest file, in bytes.
pub(crate) const MAX_BYTES: usize = 256 << 10;
/// Maps and lists within each other.
const MAX_DEPTH: usize = 16;
/// `[` and `{` in a file: libyaml's time grows with the product of their nesting and the file's length.
const MAX_BRACKETS: usize = 4096;
/// Values after aliases are expanded.
const MAX_NODES: usize = 100_000;
/// Bytes of text after aliases are expanded.
const MAX_TEXT: usize = 1 << 20;
/// Characters of a message that quotes the file.
const MAX_MESSAGE: usize = 400;
/// The characters after which libyaml begins a line.
const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
/// The largest whole number that every JSON reader keeps exactly, 2^53 − 1.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// What a `null` is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    /// A mistake.
    Refused,
    /// As the value of a field: "this field of the file below goes".
    Removes,
}

/// Parses one document; `null` is refused. A float or a huge number where a pin belongs is `PIN_INVALID`, all else that
/// is wrong `CONFIG_INVALID`, with the path of the field, the line and the column where they are known.
pub fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    read(bytes, Null::Refused)
}

/// As [`parse`], for a file that is merged over another: `null` as the value of a field, not within a list, may stand.
pub fn parse_layer(bytes: &[u8]) -> Result<Value, Refusal> {
    read(bytes, Null::Removes)
}

/// Reads a parsed document as a `T`; a refusal names the path of the field.
pub fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Refusal> {
    fields(value).map_err(|fault| Refusal::new(Code::ConfigInvalid, fault.to_string()))
}

/// What is wrong with one field of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The path of the field, such as `run.limits.memory`; empty for the whole document.
    pub(crate) field: String,
    /// What was got and what was expected.
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: brief(field.into()),
            message: brief(message.into()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// As [`typed`], with the path apart from the message.
pub(crate) fn fields<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "" } else { &path };
        Fault::new(field, error.inner().to_string())
    })
}

/// Cuts off what is too long to be read by a person.
fn brief(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn read(bytes: &[u8], nulls: Null) -> Result<Value, Refusal> {
    let text = text(bytes).map_err(|detail| Refusal::new(Code::ConfigInvalid, detail))?;
    let mut reading = Reading::default();
    let document = Node {
        reading: &mut reading,
        depth: 0,
        place: Place::Root,
        nulls,
    };
    let value = document.deserialize(serde_yaml::Deserializer::from_str(text));
    let value = value.map_err(|error| Refusal::new(reading.code(), brief(error.to_string())))?;
    refuse_tags(text)?;
    Ok(value)
}

/// Checks what must be known before a parser sees the bytes.
fn text(bytes: &[u8]) -> Result<&str, String> {
    let length = bytes.len();
    if length > MAX_BYTES {
        return Err(format!("{length} bytes, expected at most {MAX_BYTES}"));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| format!("expected UTF-8, got {error}"))?;
    if text.starts_with('\u{feff}') {
        return Err("expected UTF-8 without a byte order mark".into());
    }
    let brackets = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{'));
    if brackets.count() > MAX_BRACKETS {
        return Err(format!(
            "more than {MAX_BRACKETS} of `[` and `{{`; write one item a line instead"
        ));
    }
    if text.split(LINE_BREAKS).any(|line| line.starts_with('%')) {
        return Err("a line begins with '%': directives are not allowed".into());
    }
    Ok(text)
}

/// Refuses all YAML tags. serde_yaml hides those of the YAML core (`!!str`) and verbatim ones (`!<…>`) from visitors.
///
/// `@` may stand wherever `!` may (in texts and comments), except that it begins no token: so a document that parses
/// has a tag exactly where it no longer parses with `@` for `!`.
fn refuse_tags(text: &str) -> Result<(), Refusal> {
    if !text.contains('!') {
        return Ok(());
    }
    let probe = text.replace('!', "@");
    let Err(error) = IgnoredAny::deserialize(serde_yaml::Deserializer::from_str(&probe)) else {
        return Ok(());
    };
    let place = error.location().map_or_else(String::new, |location| {
        format!(" at line {} column {}", location.line(), location.column())
    });
    Err(Refusal::new(
        Code::ConfigInvalid,
        format!("tags are not allowed{place}: quote a text that begins with '!'"),
    ))
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    nodes: usize,
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

    fn code(&self) -> Code {
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
struct Node<'a> {
    reading: &'a mut Reading,
    depth: usize,
    place: Place,
    nulls: Null,
}

impl Node<'_> {
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

#[cfg(test)]
mod tests;
