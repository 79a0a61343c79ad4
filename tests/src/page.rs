//! The pages of the documentation and the fenced blocks in them.
//!
//! Each block says by its tag what it is: `yaml KIND`, `sh` (run as written), `sh no-run: REASON`, `text`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path from the top of the repository.
    pub path: String,
    /// Its fenced blocks, in order.
    pub blocks: Vec<Block>,
}

/// One fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// What stands behind the opening fence.
    pub tag: String,
    /// The lines between the fences.
    pub text: String,
}

/// The top of the repository.
pub fn top() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    folder.expect("tests/ lies in the repository").to_owned()
}

/// All pages: README.md, CHANGELOG.md and what lies under docs/ and state-repo-example/, sorted by path.
///
/// # Panics
/// When a file cannot be read.
pub fn all() -> Vec<Page> {
    let mut paths = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    collect("docs", &mut paths);
    collect("state-repo-example/repository", &mut paths);
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// Reads one page.
///
/// # Panics
/// When the file cannot be read or a fence is left open.
pub fn read(path: &str) -> Page {
    let text = std::fs::read_to_string(top().join(path)).expect(path);
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(tag), None) => {
                let (tag, text) = (tag.to_owned(), String::new());
                open = Some(Block { tag, text });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{path}: a fence is left open");
    let path = path.to_owned();
    Page { path, blocks }
}

fn collect(folder: &str, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(top().join(folder))
        .expect(folder)
        .flatten()
    {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&path, paths);
        } else if path.ends_with(".md") {
            paths.push(path);
        }
    }
}

/// All tests: functions of the tests' files and of the modules that test themselves, and the attacks by their names.
pub fn claims() -> BTreeSet<String> {
    fn collect(folder: &Path, claims: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, claims);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("the sources");
                let functions = text.lines().filter_map(|line| {
                    let name = line.trim_start().trim_start_matches("async ");
                    let name = name.strip_prefix("fn ")?.split('(').next()?;
                    Some(name.replace('_', " "))
                });
                claims.extend(functions);
                if path
                    .parent()
                    .is_some_and(|folder| folder.ends_with("attack"))
                {
                    claims.extend(text.split('"').skip(1).step_by(2).map(str::to_owned));
                }
            }
        }
    }
    let mut claims = BTreeSet::new();
    for folder in [
        "state/src",
        "state/tests",
        "policy/src",
        "policy/tests",
        "agent/src",
        "agent/tests",
        "tests/tests",
    ] {
        collect(&top().join(folder), &mut claims);
    }
    claims
}
