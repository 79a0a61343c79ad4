//! What a later version of policy printed is refused as that, and named by all that it says.

use super::*;
use crate::release::place as place_of;

/// Every place of a map in `value`, as the keys and indices that lead there.
fn maps(value: &Value) -> Vec<Vec<String>> {
    let below = |key: String, value: &Value| {
        let found = maps(value).into_iter();
        found
            .map(move |rest| [vec![key.clone()], rest].concat())
            .collect::<Vec<_>>()
    };
    match value {
        Value::Object(fields) => {
            let found = fields
                .iter()
                .flat_map(|(key, value)| below(key.clone(), value));
            [vec![Vec::new()], found.collect()].concat()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items
                .flat_map(|(n, value)| below(n.to_string(), value))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The file of a release or of rules that say `value`, as a later version would print it.
fn file(value: &Value) -> String {
    let mut whole = json!({ "origin": origin() });
    whole
        .as_object_mut()
        .unwrap()
        .extend(value.as_object().unwrap().clone());
    serde_yaml::to_string(&whole).unwrap()
}

#[test]
fn a_field_that_is_not_known_is_newer_wherever_it_stands_and_never_dropped() {
    for (value, newer) in [
        (fullest(), Code::ReleaseNewer),
        (rules_value(), Code::RulesNewer),
    ] {
        for path in maps(&value) {
            // Whatever an author names himself is known.
            let free = ["environment", "labels", "defaults"];
            let is_free = path.iter().any(|key| free.contains(&key.as_str()));
            // Where one kind is named, another beside it is wrong, whatever it is.
            if is_free || path == ["strategy"] {
                continue;
            }
            let mut later = value.clone();
            let mut place = &mut later;
            for key in &path {
                place = match key.parse::<usize>() {
                    Ok(n) => &mut place[n],
                    Err(_) => &mut place[key],
                };
            }
            place["future"] = json!("x");
            let text = file(&later);
            let read = match newer {
                Code::RulesNewer => {
                    Rules::from_yaml("prod".parse().unwrap(), text.as_bytes()).map(drop)
                }
                _ => reread(text.as_bytes()).map(drop),
            };
            assert_eq!(read.unwrap_err().code, newer, "{path:?}");
            // Its id is that of all that it says, so that nothing signed passes for something else.
            let canonical = serde_json::to_string(&later).unwrap();
            let (id, from) = identify::<Service>(text.as_bytes()).unwrap();
            assert_eq!(id.0, Sha256Hash::of(canonical.as_bytes()).0, "{path:?}");
            assert_eq!(from, origin());
        }
    }
}

#[test]
fn a_kind_that_is_not_known_is_newer() {
    for (field, kind) in [
        ("strategy", json!({ "canary": { "steps": [] } })),
        ("state", json!("paused")),
        ("health", json!({ "live": { "tcp": true, "grpc": true } })),
    ] {
        let mut later = fullest();
        later[field] = kind;
        let refusal = reread(file(&later).as_bytes()).unwrap_err();
        assert_eq!(refusal.code, Code::ReleaseNewer, "{refusal}");
    }
}

#[test]
fn the_hosts_of_a_release_that_is_not_known_are_told_only_where_that_is_certain() {
    let place = |edit: fn(&mut Value)| {
        let mut later = fullest();
        later["future"] = json!("x");
        edit(&mut later);
        place_of(file(&later).as_bytes())
    };
    let web = place(|_| {}).unwrap();
    assert_eq!(web.labels.len(), 1);
    assert_eq!(
        place(|later| drop(later.as_object_mut().unwrap().remove("place"))),
        Some(Place::default())
    );
    assert_eq!(place(|later| later["place"]["count"] = json!(2)), None);
}
