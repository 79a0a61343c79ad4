//! stub: see below
#![allow(clippy::todo, clippy::needless_pass_by_value)]
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::refusal::Refusal;

/// Parses one YAML document within the bounds of the format; `null` is refused.
pub fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    let _ = bytes;
    todo!()
}

/// As [`parse`], for a file that is merged over another: there a `null` value of a field removes it.
pub fn parse_layer(bytes: &[u8]) -> Result<Value, Refusal> {
    let _ = bytes;
    todo!()
}

/// Reads a parsed document as a `T`; a refusal names the path of the field.
pub fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Refusal> {
    let _ = value;
    todo!()
}
