//! `agent logs SERVICE`: what a service, its build or its tests printed. Reads files; needs no agent.

use std::io::{BufRead as _, BufReader, Write as _};

use anyhow::Context as _;
use clap::builder::PossibleValue;
use state::name::ServiceName;
use state::text::Escaped;
use state::{Code, Refusal};

use super::{Exit, Place};
use crate::record::Guard;
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
    let path = if args.build {
        layout.build_log()
    } else if args.tests {
        layout.tests_log()
    } else {
        let stable = record.stable().map(|(slot, _)| slot);
        let last = record.deployment.as_ref().map(|deployment| deployment.slot);
        layout.log(args.slot.or(stable).or(last).unwrap_or(Slot::Blue))
    };
    let file =
        std::fs::File::open(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
    let mut last = std::collections::VecDeque::with_capacity(args.lines.min(10_000));
    for line in BufReader::new(file).split(b'\n') {
        if last.len() == args.lines {
            last.pop_front();
        }
        last.push_back(line?);
    }
    let mut out = std::io::stdout().lock();
    for line in last {
        writeln!(out, "{}", Escaped(&String::from_utf8_lossy(&line)))?;
    }
    Ok(Exit::Well)
}
