//! `agent logs SERVICE`: what a service, its build or its tests printed. Reads files; needs no agent.

mod follow;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValue;
use state::name::ServiceName;
use state::text::Escaped;
use state::{Code, Refusal};

use super::{Exit, Place};
use crate::deployment::record::{Guard, Record};
use crate::layout::ServiceLayout;
use crate::output;
use crate::runner::previous_log;
use crate::slot::Slot;

/// Show what a service printed
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    /// The service.
    service: ServiceName,
    /// Show the log of the last build instead.
    #[arg(long, conflicts_with_all = ["tests", "slot"])]
    build: bool,
    /// Show the log of the last tests instead.
    #[arg(long, conflicts_with = "slot")]
    tests: bool,
    /// Show this slot; by default the one that has the requests.
    #[arg(long, value_enum)]
    slot: Option<Slot>,
    /// How many lines at most, the last.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 200)]
    lines: usize,
    /// Go on with what is printed from now on, until Ctrl-C; after a swap with what the new slot prints.
    #[arg(long, short)]
    follow: bool,
}

impl clap::ValueEnum for Slot {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Blue, Self::Green]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

pub(super) fn cmd_logs(place: &Place, args: &LogsArgs) -> anyhow::Result<Exit> {
    let layout = place.layout.service(&args.service);
    let record = Guard::read(&layout.record(), &args.service)?
        .ok_or_else(|| Refusal::new(Code::UnknownService, format!("'{}'", args.service)))?;
    if args.follow {
        return follow::follow(args, &layout, record);
    }
    let path = path(args, &layout, &record);
    let text = last_lines(&path, args.lines)
        .with_context(|| format!("cannot read '{}'", path.display()))?;
    match text {
        Some(text) => output::print(&text)?,
        None => eprintln!(
            "nothing was printed yet: '{}' does not exist",
            path.display()
        ),
    }
    Ok(Exit::Well)
}

/// The log that `args` asks for; of slots the one that has the requests, else the one that was started last.
fn path(args: &LogsArgs, layout: &ServiceLayout, record: &Record) -> PathBuf {
    if args.build {
        return layout.build_log();
    }
    if args.tests {
        return layout.tests_log();
    }
    let stable = record.stable().map(|(slot, _)| slot);
    let last = record.deployment.as_ref().map(|deployment| deployment.slot);
    layout.log(args.slot.or(stable).or(last).unwrap_or(Slot::Blue))
}

/// The last `count` lines at `path`, escaped; those of its predecessor count too. `None` if there is no such log.
fn last_lines(path: &Path, count: usize) -> io::Result<Option<String>> {
    let mut last = VecDeque::new();
    let mut found = false;
    for path in [previous_log(path), path.to_owned()] {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        found = true;
        for line in BufReader::new(file).split(b'\n') {
            last.push_back(line?);
            if last.len() > count {
                last.pop_front();
            }
        }
    }
    let shown = |line: &Vec<u8>| format!("{}\n", Escaped(&String::from_utf8_lossy(line)));
    Ok(found.then(|| last.iter().map(shown).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_reach_back_into_the_full_log_and_are_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blue.log");
        assert_eq!(last_lines(&path, 9).unwrap(), None);
        std::fs::write(previous_log(&path), "one\ntwo\n").unwrap();
        std::fs::write(&path, b"three\n\x1b[2J\xff").unwrap();
        let last = |count| last_lines(&path, count).unwrap().unwrap();
        assert_eq!(last(3), "two\nthree\n\\u{1b}[2J\u{fffd}\n");
        assert_eq!(last(0), "");
    }

    #[test]
    fn without_a_wish_the_log_is_that_of_the_slot_with_the_requests() {
        let layout = crate::layout::Layout::new(Path::new("/h")).unwrap();
        let service: ServiceName = "web".parse().unwrap();
        let layout = layout.service(&service);
        let args = |build, slot| LogsArgs {
            service: service.clone(),
            build,
            tests: false,
            slot,
            lines: 1,
            follow: false,
        };
        let record = Record::new(service.clone());
        assert!(path(&args(false, None), &layout, &record).ends_with("logs/blue.log"));
        assert!(path(&args(true, None), &layout, &record).ends_with("logs/build.log"));
        let green = args(false, Some(Slot::Green));
        assert!(path(&green, &layout, &record).ends_with("logs/green.log"));
    }
}
