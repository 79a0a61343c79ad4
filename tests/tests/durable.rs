//! Newer is not damaged: every durable file of an agent is read as other versions wrote it, and what this version does not
//! know is written back. To renew the fixtures of this version: `FIXTURES=write cargo test -p tests --test durable`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent::files::{self, File};
use agent::journal::Journal;
use serde_json::{Value, json};
use state::durable::Unreadable;
use tests::fleet::{Fleet, Service};
use tests::host::{Host, hold_code, is_live};

/// This version's folder of fixtures.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Objects that are no structures of fields: maps, and values that change only with the format.
const CLOSED: [&str; 12] = [
    "address",
    "environment",
    "files",
    "trust",
    "main",
    "limits",
    "grace",
    "exit",
    "supervisor",
    "process",
    "until",
    "time",
];

/// What else an agent leaves below `/var/lib/writ`: caches, locks, what was built, and what people read or sign.
const OTHERS: [&str; 10] = [
    "agent/agent.lock",
    "agent/proxy.log",
    "agent/mirrors/",
    "agent/sources/",
    "/desired.yaml",
    "/releases/",
    "/logs/",
    "/lock",
    "/data/",
    // What a killed agent was about to put in place.
    "/.tmp-",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The name of a file's fixture: its own, or that of its folder.
fn name(file: &File) -> String {
    let path = file.path.trim_end_matches("/*.json");
    let name = path.rsplit('/').next().unwrap();
    format!("{}.json", name.trim_end_matches(".json"))
}

/// Every fixture with the file that it is one of.
fn all() -> Vec<(PathBuf, File, Value)> {
    let mut all = Vec::new();
    for version in fs::read_dir(fixtures()).unwrap() {
        for path in fs::read_dir(version.unwrap().path()).unwrap() {
            let path = path.unwrap().path();
            let named = |file: &&File| path.ends_with(name(file));
            let file = files::ALL.iter().find(named);
            let file = file.unwrap_or_else(|| panic!("{}: of which file?", path.display()));
            let value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            all.push((path, *file, value));
        }
    }
    all
}

fn rewrite(file: &File, value: &Value) -> Result<Value, Unreadable> {
    (file.rewrite)(value.to_string().as_bytes())
}

/// Says whether all that `part` says stands in `whole`.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, part)| whole.get(name).is_some_and(|whole| holds(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(one, two)| holds(one, two))
        }
        _ => whole == part,
    }
}

/// The pointers of all objects of `value` that have fields of their own.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(fields) = value else { return };
    let name = at.rsplit('/').next().unwrap();
    if name != "slots" && name != "files" {
        found.push(at.to_owned());
    }
    for (name, field) in fields {
        if !CLOSED.contains(&name.as_str()) {
            objects(field, &format!("{at}/{name}"), found);
        }
    }
}

#[test]
fn every_file_has_a_fixture_of_this_version() {
    for file in files::ALL {
        let path = fixtures().join(VERSION).join(name(&file));
        assert!(path.is_file(), "{} is missing", path.display());
    }
}

#[test]
fn what_any_version_wrote_is_read_and_nothing_of_it_is_lost() {
    for (path, file, value) in all() {
        let written = rewrite(&file, &value).unwrap_or_else(|why| panic!("{path:?}: {why:?}"));
        assert!(holds(&written, &value), "{path:?}: {written:#}");
    }
}

#[test]
fn fields_that_only_a_newer_version_knows_are_written_back() {
    let mut kept = 0;
    for (path, file, value) in all() {
        // A cache and an entry are written once, by the version that made them.
        if !path.starts_with(fixtures().join(VERSION)) || path.ends_with("stamps.json") {
            continue;
        }
        let mut pointers = Vec::new();
        objects(&value, "", &mut pointers);
        for pointer in pointers {
            if path.ends_with("status.json") && !pointer.is_empty() {
                continue; // a report, never read to be written again
            }
            let mut newer = value.clone();
            newer.pointer_mut(&pointer).unwrap()["unknown"] = json!({ "field": [1, null] });
            let written = rewrite(&file, &newer).unwrap_or_else(|why| panic!("{path:?}: {why:?}"));
            assert!(
                holds(&written, &newer),
                "{path:?}: '{pointer}': {written:#}"
            );
            kept += 1;
        }
    }
    assert!(kept > 20, "{kept}");
}

#[test]
fn codes_and_words_that_only_a_newer_version_knows_are_written_back() {
    let mut changed = 0;
    for (path, file, value) in all() {
        let mut newer = value.clone();
        for (pointer, word) in [
            ("/failed/failure/refusal/code", "NOT_KNOWN_YET"),
            ("/deployment/phase", "observing"),
            ("/slots/blue/role", "mirrored"),
            ("/manual/kind", "handedOver"),
        ] {
            if let Some(place) = newer.pointer_mut(pointer) {
                *place = word.into();
                changed += 1;
            }
        }
        let written = rewrite(&file, &newer).unwrap_or_else(|why| panic!("{path:?}: {why:?}"));
        assert!(holds(&written, &newer), "{path:?}: {written:#}");
    }
    assert!(changed >= 4, "{changed}");
}

#[test]
fn a_newer_format_is_told_from_damage_whatever_else_it_says() {
    for file in files::ALL {
        let newer = (file.rewrite)(br#"{"format":9,"all":"else is unknown"}"#);
        assert!(matches!(newer, Err(Unreadable::Newer(_))), "{}", file.path);
        let damaged = (file.rewrite)(b"{");
        assert!(
            matches!(damaged, Err(Unreadable::Damaged(_))),
            "{}",
            file.path
        );
    }
}

/// A host with a file of every kind: a hold, a rollback, an exception for something stale, a build with a cache.
#[test]
fn an_agent_writes_no_durable_file_without_a_fixture() {
    let mut web = Service::web("web");
    web.strategy = "{ blueGreen: { bake: 300ms } }";
    let fleet = Fleet::new("hosts: any\n", &[web]);
    let mut host = fleet.host("one");
    host.start();
    host.wait_for("v1 is live", "web", is_live);
    let second = fleet.release("web", "text v2\n");
    host.wait_for("v2 is live", "web", |web| {
        is_live(web) && web["running"]["source"] == second.as_str()
    });
    fleet.release("web", "exit-now\n");
    host.wait_for("v3 is held", "web", |web| {
        hold_code(web).is_some() && is_live(web)
    });
    host.agent(&["rollback", "web"]).ok();
    host.wait_for("v1 runs again", "web", |web| {
        web["held"]["kind"] == "manual" && is_live(web)
    });
    host.kill();
    std::fs::rename(fleet.path("state.git"), fleet.path("away.git")).unwrap();
    host.start_with_clock("+3d");
    host.wait_for("v1 runs still", "web", is_live);
    host.agent(&["apply", "--stale", "--reason", "a test"]).ok();
    host.kill();
    let written = durable_files(&host);
    for file in files::ALL {
        assert!(
            written.contains_key(&name(&file)),
            "{} was never written",
            file.path
        );
    }
    for (name, value) in written {
        let path = fixtures().join(VERSION).join(&name);
        if std::env::var_os("FIXTURES").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("{value:#}\n")).unwrap();
        }
        assert!(path.is_file(), "{} is missing", path.display());
    }
}

/// Every durable file that the host has, as JSON, by the name of its fixture; fails if there is another.
fn durable_files(host: &Host) -> BTreeMap<String, Value> {
    let top = host.root().join("var/lib/writ");
    let mut found = BTreeMap::new();
    let mut open = vec![top.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let short = path
                .strip_prefix(&top)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if short == "agent/journal" {
                let entries = Journal::new(path, Box::new(|_| ()))
                    .recent(None, 1)
                    .unwrap();
                found.insert(
                    "journal.json".to_owned(),
                    serde_json::to_value(&entries[0]).unwrap(),
                );
            } else if path.is_dir() {
                open.push(path);
            } else if let Some(file) = files::ALL.iter().find(|file| is_at(file.path, &short)) {
                let value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                found.insert(name(file), value);
            } else {
                let known = OTHERS.iter().any(|other| short.contains(other));
                assert!(
                    known,
                    "{short} is durable? agent/src/files.rs does not list it"
                );
            }
        }
    }
    found
}

/// Says whether `path` is what `pattern` stands for.
fn is_at(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    let fits = pattern.split('/').all(|pattern| {
        let name = names.next().unwrap_or_default();
        match pattern.split_once('*') {
            Some((before, after)) => name.starts_with(before) && name.ends_with(after),
            None => name == pattern,
        }
    });
    fits && names.next().is_none()
}
