//! What a trust file says, one line a fact, and what another says otherwise: spelling, order and comments apart.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use state::Refusal;
use state::key::{Fingerprint, PublicKey};
use state::text::Escaped;
use state::yaml;

use crate::output::{Colour, Paint};

/// How the holders of the listed keys call them: the comments behind the keys.
///
/// # Errors
/// `CONFIG_INVALID` if it is no YAML.
pub fn comments(bytes: &[u8]) -> Result<BTreeMap<Fingerprint, String>, Refusal> {
    fn collect(value: &Value, found: &mut BTreeMap<Fingerprint, String>) {
        match value {
            Value::String(text) => found.extend(key(text)),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, found)),
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    collect(&yaml::parse(bytes)?, &mut found);
    Ok(found)
}

/// What differs between two trust files: `-` what only the first says, `+` what only the second says.
///
/// # Errors
/// `CONFIG_INVALID` if one is no YAML.
pub fn difference(before: &[u8], after: &[u8], paint: Paint) -> Result<String, Refusal> {
    let (before, after) = (facts(before)?, facts(after)?);
    let mut out = String::new();
    for (sign, colour, these, those) in [
        ('-', Colour::Red, &before, &after),
        ('+', Colour::Green, &after, &before),
    ] {
        for fact in these.iter().filter(|fact| !those.contains(fact)) {
            let line = format!("{sign} {}", Escaped(fact));
            let _ = writeln!(out, "  {}", paint.paint(colour, line));
        }
    }
    Ok(out)
}

/// The facts of a trust file, keys as fingerprint and comment.
fn facts(bytes: &[u8]) -> Result<Vec<String>, Refusal> {
    let mut facts = Vec::new();
    list("", &yaml::parse(bytes)?, &mut facts);
    Ok(facts)
}

/// Adds a line for each field, and for each item of a list.
fn list(path: &str, value: &Value, facts: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                list(&path, field, facts);
            }
        }
        Value::Array(items) => {
            facts.extend(items.iter().map(|item| format!("{path}: {}", flow(item))));
        }
        scalar => facts.push(format!("{path}: {}", flow(scalar))),
    }
}

/// `value` on one line, in YAML's flow style.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => match key(text) {
            Some((print, comment)) => format!("{print} {comment}").trim_end().to_owned(),
            None => text.clone(),
        },
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(flow).collect();
            format!("[ {} ]", items.join(", "))
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!("{name}: {}", flow(value));
            // Who comes first, then what he may.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| !matches!(name.as_str(), "name" | "key"));
            fields.sort_by_key(|(name, _)| *name != "name");
            let fields: Vec<_> = fields.into_iter().map(field).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// The fingerprint and the comment of a public key's line.
fn key(text: &str) -> Option<(Fingerprint, String)> {
    let key: PublicKey = text.parse().ok()?;
    let comment = text.splitn(3, ' ').nth(2).unwrap_or_default();
    Some((key.fingerprint(), comment.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::key::SigningKey;

    #[test]
    fn another_spelling_is_no_difference_and_another_scope_is() {
        let key = SigningKey::generate().public().clone();
        let block = format!(
            "version: 1 # one\nroot:\n  keys:\n    - {key} r1\n\
             authors:\n  - {{ name: a, key: \"{key}\", paths: [ \"x\" ] }}\n"
        );
        let flow = format!(
            "authors: [ {{ name: a, key: \"{key}\", paths: [ x ] }} ]\nroot: {{ keys: [ \"{key} r1\" ] }}\nversion: 1\n"
        );
        let plain = |one: &str, two: &str| {
            difference(one.as_bytes(), two.as_bytes(), Paint::Plain).unwrap()
        };
        assert_eq!(plain(&block, &flow), "");
        let said = plain(&block, &flow.replace("[ x ]", "[ x, y ]"));
        let print = key.fingerprint().to_string();
        let [before, after] = *said.lines().collect::<Vec<_>>() else {
            panic!("{said}");
        };
        assert!(before.starts_with("  - authors: ") && before.contains(&print));
        assert!(after.starts_with("  + authors: ") && after.contains("[ x, y ]"));
        assert_eq!(comments(flow.as_bytes()).unwrap()[&key.fingerprint()], "r1");
    }

    #[test]
    fn what_a_file_says_reaches_no_terminal_as_an_escape() {
        let said = difference(b"name: a", b"name: \"\\e[2J\"", Paint::Plain).unwrap();
        assert!(
            !said.contains('\u{1b}') && said.contains(r"\u{1b}[2J"),
            "{said}"
        );
    }
}
