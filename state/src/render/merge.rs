//! Laying one file over another: maps merge, lists and scalars replace, `null` removes.
//!
//! Some fields exclude each other. Where the upper file writes one of them, the lower file's others are dropped, so
//! that an overlay changes the kind of a thing by naming the new kind: `strategy: {recreate: {}}` over
//! `strategy: {blueGreen: {…}}`, `run.static` over `run.command`, `tcp` over `http` in a probe. What stands beside them
//! (`every`, `environment`) stays.

use serde_json::{Map, Value};

use crate::yaml::Fault;

/// What a `null` must find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    /// Something or nothing: a base stands over the defaults of many environments.
    MayFindNothing,
    /// Something: a removal in an overlay that removes nothing is a slip of the pen.
    MustRemove,
}

/// Says which fields of the map at `path` exclude `key`.
fn excluded(path: &str, key: &str, other: &str) -> bool {
    const COMMAND: &[&str] = &["command", "static"];
    const CHECK: &[&str] = &["http", "tcp", "exec"];
    let group = match path {
        "strategy" => return key != other,
        "run" => COMMAND,
        "health.startup" | "health.ready" | "health.live" => CHECK,
        _ => return false,
    };
    key != other && group.contains(&key) && group.contains(&other)
}

/// Lays `upper` over `lower`.
pub(super) fn merge(
    lower: &mut Map<String, Value>,
    upper: &Map<String, Value>,
    nulls: Null,
) -> Result<(), Fault> {
    merge_at("", lower, upper, nulls)
}

fn merge_at(
    path: &str,
    lower: &mut Map<String, Value>,
    upper: &Map<String, Value>,
    nulls: Null,
) -> Result<(), Fault> {
    let (removals, fields): (Vec<_>, Vec<_>) = upper.iter().partition(|(_, value)| value.is_null());
    for (key, _) in removals {
        if lower.remove(key).is_none() && nulls == Null::MustRemove {
            return Err(Fault::new(
                join(path, key),
                "null, but there is nothing to remove",
            ));
        }
    }
    for (key, _) in &fields {
        lower.retain(|other, _| !excluded(path, key, other));
    }
    for (key, value) in fields {
        let Value::Object(upper) = value else {
            lower.insert(key.clone(), value.clone());
            continue;
        };
        let below = lower.entry(key).or_insert(Value::Null);
        if !below.is_object() {
            *below = Value::Object(Map::new());
        }
        if let Value::Object(lower) = below {
            merge_at(&join(path, key), lower, upper, nulls)?;
        }
    }
    Ok(())
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(lower: &Value, upper: &Value, nulls: Null) -> Result<Value, Fault> {
        let mut fields = lower.as_object().unwrap().clone();
        merge(&mut fields, upper.as_object().unwrap(), nulls).map(|()| Value::Object(fields))
    }

    #[test]
    fn maps_merge_lists_and_scalars_replace_null_removes() {
        let lower = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}, "g": 1});
        let upper = json!({"a": {"c": [3]}, "d": null, "e": 2, "g": {"h": 3}});
        let result = json!({"a": {"b": 1, "c": [3]}, "e": 2, "g": {"h": 3}});
        assert_eq!(merged(&lower, &upper, Null::MustRemove), Ok(result));
    }

    #[test]
    fn naming_another_kind_replaces_the_kind() {
        for (lower, upper, result) in [
            (
                json!({"strategy": {"blueGreen": {"bake": "1m"}}}),
                json!({"strategy": {"recreate": {}}}),
                json!({"strategy": {"recreate": {}}}),
            ),
            (
                json!({"strategy": {"blueGreen": {"bake": "1m"}}}),
                json!({"strategy": {"blueGreen": {}}}),
                json!({"strategy": {"blueGreen": {"bake": "1m"}}}),
            ),
            (
                json!({"run": {"command": ["./web"], "listen": "socket"}}),
                json!({"run": {"static": "public"}}),
                json!({"run": {"static": "public", "listen": "socket"}}),
            ),
            (
                json!({"health": {"ready": {"http": "/", "every": "2s"}, "live": {"http": "/"}}}),
                json!({"health": {"ready": {"http": null, "tcp": true}}}),
                json!({"health": {"ready": {"tcp": true, "every": "2s"}, "live": {"http": "/"}}}),
            ),
            (
                json!({"run": {"environment": {"http": "1", "command": "x"}}}),
                json!({"run": {"environment": {"tcp": "2", "static": "y"}}}),
                json!({"run": {"environment": {"http": "1", "tcp": "2", "command": "x", "static": "y"}}}),
            ),
        ] {
            assert_eq!(merged(&lower, &upper, Null::MustRemove), Ok(result));
        }
    }

    #[test]
    fn two_kinds_in_one_file_stay_two() {
        let upper = json!({"run": {"command": ["a"], "static": "b"}});
        assert_eq!(merged(&json!({}), &upper, Null::MustRemove), Ok(upper));
    }

    #[test]
    fn a_null_in_an_overlay_must_remove_something() {
        let upper = json!({"run": {"limits": {"memroy": null}}});
        let lower = json!({"run": {"limits": {"memory": "1GiB"}}});
        let fault = merged(&lower, &upper, Null::MustRemove).unwrap_err();
        assert_eq!(fault.field, "run.limits.memroy");
        assert_eq!(merged(&lower, &upper, Null::MayFindNothing), Ok(lower));
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(1)),
            Just(json!("x")),
            Just(json!([1])),
            Just(Value::Null)
        ];
        let key = prop::sample::select(vec!["run", "strategy", "command", "static", "a"]);
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
        })
        .prop_filter("a document is a map", Value::is_object)
    }

    fn holds_null(value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.values().any(holds_null),
            other => other.is_null(),
        }
    }

    proptest! {
        #[test]
        fn no_null_survives_and_laying_a_file_twice_is_laying_it_once(lower in document(), upper in document()) {
            let base = merged(&json!({}), &lower, Null::MayFindNothing).unwrap();
            let once = merged(&base, &upper, Null::MayFindNothing).unwrap();
            prop_assert!(!holds_null(&once));
            prop_assert_eq!(merged(&once, &upper, Null::MayFindNothing), Ok(once.clone()));
        }
    }
}
