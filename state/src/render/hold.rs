//! An author's hold: `hold: "<reason>"` in an overlay. It stops the changes of the service in that environment, and is
//! no part of the release: to hold, or to lift a hold, changes no id.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::layout::{self, Layout};
use super::refusal;
use crate::name::{EnvironmentName, ServiceName};
use crate::refusal::Refusal;
use crate::tree::{Change, File, Files};
use crate::yaml::{self, Fault};

/// The field's name.
const FIELD: &str = "hold";

/// The most characters of a reason.
const LONGEST: usize = 500;

/// What authors hold, with their reasons.
pub type Holds = BTreeMap<(EnvironmentName, ServiceName), String>;

/// Takes the hold out of the fields of an overlay.
pub(super) fn take(fields: &mut Map<String, Value>) -> Result<Option<String>, Fault> {
    let fine = |reason: &str| !reason.trim().is_empty() && reason.chars().count() <= LONGEST;
    match fields.remove(FIELD) {
        None => Ok(None),
        Some(Value::String(reason)) if fine(&reason) => Ok(Some(reason)),
        Some(_) => {
            let message = format!("expected a reason, a text of at most {LONGEST} characters");
            Err(Fault::new(FIELD, message))
        }
    }
}

/// The hold in the text of an overlay.
///
/// # Errors
/// `CONFIG_INVALID`, `PIN_INVALID`.
pub fn hold(overlay: &[u8]) -> Result<Option<String>, Refusal> {
    // A key that does not stand there in plain has an escape in it; most overlays are not even parsed.
    let plain = overlay
        .windows(FIELD.len())
        .any(|part| part == FIELD.as_bytes());
    if !plain && !overlay.contains(&b'\\') {
        return Ok(None);
    }
    match yaml::parse_layer(overlay)? {
        Value::Object(mut fields) => take(&mut fields).map_err(|fault| refusal("overlay", &fault)),
        _ => Ok(None),
    }
}

/// Says whether a change of a file holds a service, lifts its hold or gives another reason. What is no overlay in form
/// holds nothing: policy does not admit it.
pub fn changes_hold(change: &Change) -> bool {
    if !layout::is_overlay(&change.path) {
        return false;
    }
    let hold = |file: &Option<File>| hold(&file.as_ref()?.bytes).ok().flatten();
    hold(&change.before) != hold(&change.after)
}

/// Everything that the authors of a tree hold.
///
/// # Errors
/// Those of [`hold`], for the first overlay that has one.
pub fn holds(files: &Files) -> Result<Holds, Refusal> {
    let mut holds = Holds::new();
    for (environment, services) in Layout::of(files).0.environments {
        for service in services {
            let path = layout::overlay(&environment, &service);
            let Some(text) = files.get(&path) else {
                continue;
            };
            if let Some(reason) = hold(text).map_err(|refusal| refusal.at(&path))? {
                holds.insert((environment.clone(), service), reason);
            }
        }
    }
    Ok(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn a_hold_is_found_however_its_key_is_spelled() {
        for text in [
            "hold: broken\n",
            "'hold': broken\n",
            "{ keep: 3, \"hold\": 'broken' }\n",
            "\"\\x68old\": broken\n",
            "? hold\n: broken\n",
            "? \"ho\\\n  ld\"\n: broken\n",
        ] {
            assert_eq!(hold(text.as_bytes()), Ok(Some("broken".into())), "{text}");
        }
        for text in ["keep: 3\n", "run: { hold: x }\n", "# hold: x\nkeep: 3\n"] {
            assert_eq!(hold(text.as_bytes()), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_hold_says_why() {
        for text in ["''", "' '", "3", "true", "null", "[ x ]", &"x".repeat(501)] {
            let refused = hold(format!("hold: {text}\n").as_bytes()).unwrap_err();
            assert_eq!(refused.code, Code::ConfigInvalid, "{text}");
        }
    }
}
