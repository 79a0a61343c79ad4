//! Replays a page of the documentation: its commands run in order, as one script in an empty folder, and what they print
//! is compared with what the page says that they print.
//!
//! A block ```` ```text output ```` is all that the commands before it print, standard error included. In it `…` stands
//! for anything within a line, and for any number of lines where it stands alone.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::leftovers::Leftovers;
use crate::page::Page;
use crate::{fleet, program, wait};

/// How long a page may take.
const WITHIN: Duration = Duration::from_secs(120);

/// What begins a block's output.
const MARK: &str = "@@ block ";

/// Replays `page` with the programs of this build, and with those in `programs` before all others.
///
/// # Panics
/// When a command fails that should not, does not fail that should (`! command`), or prints something else.
pub fn replay(page: &Page, programs: Option<&Path>) {
    let dir = tempfile::Builder::new()
        .prefix("docs-")
        .tempdir()
        .expect("a temporary folder");
    let _processes = Leftovers::of(dir.path());
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect(name);
    write("script.sh", &script(page));
    write(
        ".gitconfig",
        "[user]\nname = reader\nemail = reader@example.org\n",
    );
    let log = dir.path().join("script.log");
    let output = File::create(&log).expect("script.log");
    let agent = program::binary("agent");
    let built = agent.parent().expect("a folder of programs");
    let path = std::env::var("PATH").expect("PATH");
    let folders = programs.into_iter().chain([built]);
    let path = folders.fold(String::new(), |path, one| {
        format!("{path}{}:", one.display())
    }) + &path;
    let mut command = program::command("bash", dir.path());
    command
        .arg("script.sh")
        .current_dir(dir.path())
        .env("PATH", path)
        .env("GIT_CONFIG_GLOBAL", dir.path().join(".gitconfig"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("script.log"))
        .stderr(output);
    let mut child = command.spawn().expect("bash");
    let deadline = Instant::now() + WITHIN;
    let read = || fs::read_to_string(&log).unwrap_or_default();
    let status = wait::until(&page.path, WITHIN * 2, || {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{}: not within {WITHIN:?}\n{}", page.path, read());
        }
        child.try_wait().expect("bash is waited for")
    });
    let agent = fs::read_to_string(dir.path().join("agent.log")).unwrap_or_default();
    let said = read();
    assert!(status.success(), "{}:\n{said}\n{agent}", page.path);
    compare(page, &said);
}

/// The page's commands.
fn script(page: &Page) -> String {
    let mut script = String::from("set -eu\n");
    let blocks = page.blocks.iter().enumerate();
    for (number, block) in blocks.filter(|(_, block)| block.tag == "sh") {
        let _ = writeln!(script, "echo '{MARK}{number}'");
        for line in block.text.lines() {
            // The shell takes a failed `! command` for no failure; a reader does.
            let _ = match line.strip_prefix("! ") {
                Some(command) => {
                    writeln!(script, "if {command}; then echo 'not refused'; exit 1; fi")
                }
                None => writeln!(script, "{line}"),
            };
        }
    }
    // Other tests run at the same time, so the port is another.
    script.replace("8080", &fleet::free_port().to_string())
}

/// Compares what each block printed with the block behind it, if that says what is printed.
fn compare(page: &Page, said: &str) {
    for part in said.split(MARK).skip(1) {
        let (number, printed) = part.split_once('\n').expect("the number's line");
        let number: usize = number.parse().expect("the number of a block");
        let follows = page.blocks.get(number + 1);
        let Some(expected) = follows.filter(|block| block.tag == "text output") else {
            continue;
        };
        let lines = |text| str::lines(text).map(str::trim_end).collect::<Vec<_>>();
        assert!(
            matches(&lines(&expected.text), &lines(printed)),
            "{}: the commands\n{}\nprinted\n{printed}\nand not\n{}",
            page.path,
            page.blocks[number].text,
            expected.text
        );
    }
}

fn matches(expected: &[&str], printed: &[&str]) -> bool {
    match (expected, printed) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=printed.len()).any(|skip| matches(rest, &printed[skip..])),
        ([line, rest @ ..], [said, more @ ..]) => line_matches(line, said) && matches(rest, more),
        _ => false,
    }
}

fn line_matches(expected: &str, said: &str) -> bool {
    let Some((start, rest)) = expected.split_once('…') else {
        return expected == said;
    };
    let Some(said) = said.strip_prefix(start) else {
        return false;
    };
    let mut ends = said.char_indices().map(|(at, _)| at).chain([said.len()]);
    ends.any(|at| line_matches(rest, &said[at..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn an_ellipsis_is_anything_and_nothing_else_is() {
        for (expected, printed, same) in [
            (&["a", "…", "c"][..], &["a", "b", "b", "c"][..], true),
            (&["a", "…", "c"], &["a", "c"], true),
            (&["a", "…", "c"], &["a", "b"], false),
            (&["x … y"], &["x 1 2 y"], true),
            (&["x … y"], &["x y"], false),
            (&["x"], &["x", "y"], false),
            (&["…"], &[], true),
        ] {
            assert_eq!(matches(expected, printed), same, "{expected:?} {printed:?}");
        }
    }
}
