//! The documentation does what it says: every command in it is run, every file in it is read by the real parser, and
//! every link in it leads somewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;

use tests::page;
use tests::transcript::replay;

/// The pages with commands that are run; each has its test below, or in ceremony.rs.
const RUN: [&str; 5] = [
    "docs/approvals.md",
    "docs/authoring.md",
    "docs/ceremonies.md",
    "docs/policy.md",
    "docs/quickstart.md",
];

#[test]
fn approvals_run_as_written() {
    replay(&page::read("docs/approvals.md"), None);
}

#[test]
fn authoring_runs_as_written() {
    replay(&page::read("docs/authoring.md"), None);
}

#[test]
fn policy_runs_as_written() {
    replay(&page::read("docs/policy.md"), None);
}

#[test]
fn the_quickstart_runs_as_written() {
    replay(&page::read("docs/quickstart.md"), None);
}

#[test]
fn every_block_says_what_it_is_and_no_page_with_commands_is_forgotten() {
    let mut not_run = Vec::new();
    for page in page::all() {
        for block in &page.blocks {
            let (kind, rest) = block.tag.split_once(' ').unwrap_or((&block.tag, ""));
            match (kind, rest) {
                ("sh", "") => assert!(RUN.contains(&page.path.as_str()), "{}", page.path),
                ("sh", rest) => {
                    let reason = rest.strip_prefix("no-run: ").expect("sh no-run: REASON");
                    not_run.push(format!("{}: {reason}", page.path));
                }
                ("text", "" | "output") => {}
                ("json", "") => {
                    serde_json::from_str::<serde_json::Value>(&block.text).unwrap();
                }
                // shapes.rs reads them.
                ("yaml", _) => {}
                _ => panic!("{}: unknown tag '{}'", page.path, block.tag),
            }
        }
    }
    // Commands that no test can run, each for the reason on its fence.
    assert_eq!(
        not_run,
        [
            "README.md: what this repository's CI does",
            "docs/agent.md: stands for your repository and your domain; the quickstart enrols a host for real",
            "docs/agent.md: needs systemd and root",
            "docs/policy.md: needs systemd and root",
            "docs/quickstart.md: builds for minutes; the test of this page uses its own build",
            "docs/threat-model.md: runs until it is stopped",
        ]
    );
}

#[test]
fn links_lead_to_files_that_exist() {
    for page in page::all() {
        let path = page::top().join(&page.path);
        let text = fs::read_to_string(&path).unwrap();
        for (_, rest) in text
            .match_indices("](")
            .map(|(at, _)| text.split_at(at + 2))
        {
            let link = rest.split(')').next().unwrap();
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                let target = path.parent().unwrap().join(file);
                assert!(target.exists(), "{}: {link}", page.path);
            }
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let claims: BTreeSet<_> = page::claims()
        .iter()
        .map(|claim| claim.replace('`', ""))
        .collect();
    let text = fs::read_to_string(page::top().join("docs/threat-model.md")).unwrap();
    let mut named = 0;
    let mut missing = Vec::new();
    let mut shown_by = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            shown_by = false;
            continue;
        }
        shown_by |= line.ends_with("| shown by |");
        let last = line.trim_end_matches(" |").rsplit("| ").next().unwrap();
        if !shown_by || last == "shown by" || last.starts_with("|---") {
            continue;
        }
        for claim in last.split(" · ").map(|claim| claim.replace('`', "")) {
            named += 1;
            if !claims.contains(&claim) {
                missing.push(claim);
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named > 80, "{named} tests are named");
}
