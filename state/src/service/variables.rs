//! The variables of a process: texts. YAML reads `DEBUG: true` as a truth value, and an author should hear what to write.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a map of texts; another scalar is refused with the text that was probably meant.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let variables = BTreeMap::<String, Text>::deserialize(deserializer)?;
    let variables = variables.into_iter();
    Ok(variables.map(|(name, text)| (name, text.0)).collect())
}

struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for a text alone, the deserializer of a value refuses all else by itself.
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
        Err(quote(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
        Err(quote(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
        Err(quote(value))
    }
}

fn quote<E: Error>(value: impl fmt::Display) -> E {
    E::custom(format!(
        "variables are texts: write \"{value}\" with the quotes"
    ))
}
