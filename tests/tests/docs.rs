//! The documentation does what it says: every command in it is run, every file in it is read by the real parser, and
//! every link in it leads somewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use tests::leftovers::Leftovers;
use tests::page::{self, Page};
use tests::{fleet, program, wait};

/// The pages with commands that are run; each has its test below.
const RUN: [&str; 3] = ["docs/authoring.md", "docs/policy.md", "docs/quickstart.md"];

#[test]
fn authoring_runs_as_written() {
    run(&page::read("docs/authoring.md"));
}

#[test]
fn policy_runs_as_written() {
    run(&page::read("docs/policy.md"));
}

#[test]
fn the_quickstart_runs_as_written() {
    run(&page::read("docs/quickstart.md"));
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
                ("text", "") => {}
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
        ]
    );
}

/// Runs the commands of a page in order, as one script in an empty folder, with the programs of this build.
fn run(page: &Page) {
    let dir = tempfile::Builder::new().prefix("docs-").tempdir().unwrap();
    let _processes = Leftovers::of(dir.path());
    let commands = page.blocks.iter().filter(|block| block.tag == "sh");
    let text: String = commands.map(|block| block.text.as_str()).collect();
    // Other tests run at the same time, so the port is another.
    let text = text.replace("8080", &fleet::free_port().to_string());
    let mut script = String::from("set -eu\n");
    for line in text.lines() {
        // The shell takes a failed `! command` for no failure; a reader does.
        match line.strip_prefix("! ") {
            Some(command) => {
                let _ = writeln!(script, "if {command}; then echo 'not refused'; exit 1; fi");
            }
            None => {
                let _ = writeln!(script, "{line}");
            }
        }
    }
    fs::write(dir.path().join("script.sh"), script).unwrap();
    fs::write(
        dir.path().join(".gitconfig"),
        "[user]\nname = reader\nemail = reader@example.org\n",
    )
    .unwrap();
    let log = dir.path().join("script.log");
    let output = File::create(&log).unwrap();
    let path = format!(
        "{}:{}",
        program::binary("agent").parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = program::command("bash", dir.path());
    command
        .args(["-x", "script.sh"])
        .current_dir(dir.path())
        .env("PATH", path)
        .env("GIT_CONFIG_GLOBAL", dir.path().join(".gitconfig"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    let mut child = command.spawn().unwrap();
    let mut lines = String::new();
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    let status = wait::until(&page.path, Duration::from_secs(130), || {
        lines = fs::read_to_string(&log).unwrap_or_default();
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
            panic!("{}: not within 120 s\n{lines}", page.path);
        }
        child.try_wait().unwrap()
    });
    let agent = fs::read_to_string(dir.path().join("agent.log")).unwrap_or_default();
    assert!(status.success(), "{}:\n{lines}\n{agent}", page.path);
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
