//! Where the programs of each version are, and a host whose agent is replaced as an upgrade does it: the file first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A program beside those of this workspace, whether or not it was built.
pub(crate) fn beside(name: &str) -> PathBuf {
    tests::program::binary("agent").with_file_name(name)
}

/// The durable files that stand for what each version writes, below `tests/fixtures`.
pub(crate) fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let versions = std::fs::read_dir(folder).unwrap();
    let files = versions.flat_map(|version| std::fs::read_dir(version.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// Puts `program` at `path` in one step, also while the one that is there runs.
pub(crate) fn install(program: &Path, path: &Path) {
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let next = folder.join("next");
    // What is renamed onto another name of the same file stays.
    let _ = std::fs::remove_file(&next);
    if std::fs::hard_link(program, &next).is_err() {
        std::fs::copy(program, &next).unwrap();
    }
    std::fs::rename(&next, path).unwrap();
}

/// The JSON of a file.
pub(crate) fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// The content of every durable file below `state`, the agent's folder, but for what running shims write.
pub(crate) fn contents(state: &Path, services: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = vec![state.join("floor.json")];
    for service in services {
        files.push(state.join(format!("services/{service}/record.json")));
        files.push(state.join(format!("../routes/{service}.json")));
        for slot in ["blue", "green"] {
            let slot = state.join(format!("services/{service}/slots/{slot}"));
            files.extend([slot.join("order.json"), slot.join("state.json")]);
        }
    }
    let read = |path: PathBuf| Some((path.clone(), std::fs::read(path).ok()?));
    files.into_iter().filter_map(read).collect()
}

/// Where in `value` there is a field or a code that only the future version knows, as JSON pointers.
pub(crate) fn marks(value: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let at = format!("{at}/{name}");
                    if name == "future" {
                        found.push(at);
                    } else {
                        walk(field, &at, found);
                    }
                }
            }
            Value::String(text) if text.starts_with("FUTURE_") => found.push(at.to_owned()),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}
