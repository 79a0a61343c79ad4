//! The page docs/reference/status.md, held against what is really written.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::command::sample;
use crate::deployment::phase::Phase;
use crate::status::{Health, HeldKind, Status};

const PAGE: &str = include_str!("../../../../docs/reference/status.md");

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// The words that begin a row of a table.
fn documented() -> BTreeSet<String> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let words = rows.filter_map(|row| row.split_once('`'));
    words.map(|(word, _)| word.to_owned()).collect()
}

#[test]
fn every_field_is_documented_and_every_documented_field_is_written() {
    let mut written = BTreeSet::new();
    let status = serde_json::to_value(sample::everything()).unwrap();
    keys(&status, &mut written);
    assert_eq!(written, documented());
}

#[test]
fn every_value_of_a_field_with_fixed_values_is_documented() {
    let healths = [
        Health::Healthy,
        Health::Unhealthy,
        Health::Unknown,
        Health::Stopped,
    ];
    let holds = [
        HeldKind::Failed,
        HeldKind::Manual,
        HeldKind::Fleet,
        HeldKind::Refused,
        HeldKind::Postponed,
        HeldKind::Limited,
    ];
    let under_way = Phase::ALL.into_iter().filter(|phase| !phase.is_terminal());
    let words = (healths.iter().map(serde_json::to_value))
        .chain(holds.iter().map(serde_json::to_value))
        .chain(under_way.map(serde_json::to_value));
    for word in words {
        let word = word.unwrap();
        let word = word.as_str().unwrap();
        assert!(PAGE.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn the_example_is_a_status_that_is_not_well() {
    let begin = PAGE.split_once("```json\n").unwrap().1;
    let text = begin.split_once("```").unwrap().0;
    let status: Status = serde_json::from_str(text).unwrap();
    assert!(!status.is_well(sample::now()));
    let again: Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&status).unwrap(), again);
}
