//! Every YAML file that the documentation and the example show is read by the parser that Writ reads it with, and
//! every field stands in one of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::settings::Settings;
use serde_json::Value;
use state::digest::{ObjectId, PayloadHash};
use state::release::Origin;
use state::render;
use state::tree::Files;
use state::trust::Trust;
use tests::page;

const PIN: &str = r#"{"source": {"commit": "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}}"#;
const BASE: &str = r#"{"source": {"repository": "/srv/web.git", "branch": "main"}, "run": {"command": ["./web"]},
    "traffic": {"listen": "127.0.0.1:8080"}}"#;
/// What the shown service needs.
const WORKER: &str =
    r#"{"source": {"repository": "/api", "branch": "main"}, "run": {"command": ["./api"]}}"#;
const RULES: &str = r#"{"hosts": "any"}"#;
const REPOSITORY: &str = include_str!("../../state-repo-example/repository/repository.yaml");

/// Reads `value`, a file of the kind that its tag names, as Writ does; an error holds everything that was said.
fn read(kind: &str, value: &Value) -> Result<(), String> {
    let text = value.to_string();
    let (mut base, mut pin, mut rules, mut repository) = (BASE, PIN, RULES, REPOSITORY);
    match kind {
        "service" => base = &text,
        "overlay" => pin = &text,
        "environment" => rules = &text,
        "repository" => repository = &text,
        "trust" => {
            return Trust::parse(text.as_bytes())
                .map(drop)
                .map_err(|error| error.to_string());
        }
        "policy" => {
            return Settings::parse(text.as_bytes())
                .map(drop)
                .map_err(|error| error.to_string());
        }
        "agent" => {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &text).unwrap();
            return agent::config::Config::load(file.path())
                .map(drop)
                .map_err(|error| error.to_string());
        }
        other => panic!("unknown kind of YAML '{other}'"),
    }
    render_all(&files([
        ("repository.yaml", repository),
        ("services/web/service.yaml", base),
        ("environments/staging/environment.yaml", RULES),
        ("environments/prod/environment.yaml", rules),
        ("environments/prod/web.yaml", pin),
        ("services/api/service.yaml", WORKER),
        ("environments/prod/api.yaml", PIN),
    ]))
}

fn files<'a>(list: impl IntoIterator<Item = (&'a str, &'a str)>) -> Files {
    let list = list.into_iter();
    list.map(|(path, text)| (path.to_owned(), Arc::from(text.as_bytes())))
        .collect()
}

fn render_all(files: &Files) -> Result<(), String> {
    let origin = Origin {
        commit: ObjectId([1; 20]),
        payload: PayloadHash([1; 32]),
    };
    let mut said = Vec::new();
    if let Err(refusal) = render::repository(files) {
        said.push(refusal.to_string());
    }
    if let Err(refusals) = render::all(files, &origin) {
        said.extend(refusals.iter().map(ToString::to_string));
    }
    match said.is_empty() {
        true => Ok(()),
        false => Err(said.join("\n")),
    }
}

/// The blocks of YAML in the documentation, each with the page it stands on and its kind.
fn blocks() -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for page in page::all() {
        for block in page.blocks {
            if let Some(kind) = block.tag.strip_prefix("yaml ") {
                let value = state::yaml::parse(block.text.as_bytes()).unwrap();
                found.push((page.path.clone(), kind.to_owned(), value));
            }
        }
    }
    found
}

#[test]
fn every_file_that_the_documentation_shows_is_accepted() {
    for (page, kind, value) in blocks() {
        read(&kind, &value).unwrap_or_else(|said| panic!("{page}: yaml {kind}:\n{said}"));
    }
}

#[test]
fn every_field_is_shown_on_some_page() {
    // Fields that stand in another file, or exclude what is shown.
    let elsewhere = ["commit", "static", "tcp", "exec", "fields"];
    let complete = [
        "service",
        "environment",
        "repository",
        "trust",
        "policy",
        "agent",
    ];
    let (mut known, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for (_, kind, value) in blocks() {
        if !complete.contains(&kind.as_str()) {
            continue;
        }
        // `defaults` is a base, which has a block of its own.
        for path in maps(&value).iter().filter(|path| *path != "/defaults") {
            // One entry of a list may show what another leaves out.
            let entries = path.split('/').map(|name| match name.parse::<usize>() {
                Ok(_) => "*",
                Err(_) => name,
            });
            let place = format!("{kind}: {}", entries.collect::<Vec<_>>().join("/"));
            let mut probe = value.clone();
            let map = probe.pointer_mut(path).unwrap().as_object_mut().unwrap();
            shown.extend(map.keys().map(|field| format!("{place}/{field}")));
            map.insert("unheard-of".to_owned(), Value::from(1));
            let Err(said) = read(&kind, &probe) else {
                continue; // a map whose keys are free
            };
            let fields = said.split("unknown field `unheard-of`, expected ").nth(1);
            let fields = fields.unwrap_or_default().split('`').skip(1).step_by(2);
            let fields = fields.filter(|field| !elsewhere.contains(field));
            known.extend(fields.map(|field| format!("{place}/{field}")));
        }
    }
    assert!(known.len() > 50, "the parser names what it knows");
    let missing: Vec<_> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The JSON pointers of all maps in `value`.
fn maps(value: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.push(path.to_owned());
                for (key, value) in map {
                    walk(value, &format!("{path}/{}", key.replace('/', "~1")), found);
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    walk(value, &format!("{path}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

#[test]
fn the_example_repository_renders() {
    fn collect(folder: &std::path::Path, prefix: &str, files: &mut Files) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{path}/"), files);
            } else {
                files.insert(path, Arc::from(std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    let mut files = Files::new();
    collect(
        &page::top().join("state-repo-example/repository"),
        "",
        &mut files,
    );
    render_all(&files).unwrap();
}
