//! YAML as people write it, within bounds: one UTF-8 document of at most 256 KiB, 16 levels and 100,000 nodes, made of
//! maps, lists, texts, whole numbers and truth values, and nothing that reads one way and means another.
//!
//! serde_yaml parses; the visitor here decides what may pass while the values are built, so that an alias bomb ends at
//! the first node too many. The result is a [`Value`], in which enums are plain maps with one key.

mod node;

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeOwned, DeserializeSeed as _, IgnoredAny};
use serde_json::Value;

use crate::refusal::{Code, Refusal};

use node::{Node, Null, Reading};

/// The longest file, in bytes.
pub(crate) const MAX_BYTES: usize = 256 << 10;
/// `[` and `{` in a file: libyaml's time grows with the product of their nesting and the file's length.
const MAX_BRACKETS: usize = 2048;
/// Characters of a message that quotes the file.
const MAX_MESSAGE: usize = 400;
/// The characters after which libyaml begins a line.
const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

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

    /// Says whether the document has a field, or names a kind of something, that this version does not know. serde says so
    /// in these words, and nothing else begins with them.
    pub(crate) fn is_unknown(&self) -> bool {
        let starts = ["unknown field `", "unknown variant `"];
        starts.iter().any(|start| self.message.starts_with(start))
    }

    /// The refusal for this fault: `newer` if the document says what this version does not know.
    pub(crate) fn refusal(&self, newer: Code) -> Refusal {
        let code = match self.is_unknown() {
            true => newer,
            false => Code::ConfigInvalid,
        };
        Refusal::new(code, self.to_string())
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
    // Where it went wrong is looked for only once something has.
    T::deserialize(value)
        .or_else(|_| serde_path_to_error::deserialize(value))
        .map_err(|error| {
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

/// Parses and bounds; the tags are looked for last, in what is known to be YAML.
fn read(bytes: &[u8], nulls: Null) -> Result<Value, Refusal> {
    let text = text(bytes).map_err(|detail| Refusal::new(Code::ConfigInvalid, detail))?;
    let mut reading = Reading::default();
    let document = Node::document(&mut reading, nulls);
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
    if text.contains('%') && text.split(LINE_BREAKS).any(|line| line.starts_with('%')) {
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

#[cfg(test)]
mod tests;
