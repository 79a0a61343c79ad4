//! `agent history`: what happened on this host.

use std::fmt::Write as _;

use anyhow::bail;
use state::name::ServiceName;
use state::text::Escaped;

use super::{Exit, Place};
use crate::journal::{Entry, Kind};
use crate::output::{Colour, Paint, moment};
use crate::progress::Progress;
use crate::socket::{self, Answer, Request};

/// Show what happened, oldest first
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Only this service.
    service: Option<ServiceName>,
    /// How many entries at most, the newest.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Print JSON: an array of entries.
    #[arg(long)]
    json: bool,
}

pub(super) fn cmd_history(place: &Place, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let entries = read(place, args.service.as_ref(), args.limit)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&entries)?);
    } else {
        print!("{}", render(&entries, Paint::of(&std::io::stdout())));
    }
    Ok(Exit::Well)
}

/// The newest entries, from the running agent or, without one, from the journal itself.
pub(super) fn read(
    place: &Place,
    service: Option<&ServiceName>,
    limit: usize,
) -> anyhow::Result<Vec<Entry>> {
    let request = Request::History {
        service: service.cloned(),
        limit,
    };
    let answer = match socket::ask(&place.layout.agent_socket(), &request)? {
        Some(answer) => answer,
        None => socket::history(&place.host(Progress::default())?, service, limit),
    };
    match answer {
        Answer::History(entries) => Ok(entries),
        Answer::Refused(refusal) => Err(refusal.into()),
        other => bail!("the agent answered something else: {other:?}"),
    }
}

fn render(entries: &[Entry], paint: Paint) -> String {
    let name = |entry: &Entry| {
        entry
            .service
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    let width = entries
        .iter()
        .map(|entry| name(entry).len())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for entry in entries {
        let number = entry
            .deployment
            .map(|number| format!("#{number}"))
            .unwrap_or_default();
        let time = paint.paint(Colour::Dim, moment(entry.time));
        let text = text(entry, paint);
        let _ = writeln!(out, "{time}  {:width$}  {number:>4}  {text}", name(entry));
    }
    out
}

/// What happened, coloured by its kind.
pub(super) fn text(entry: &Entry, paint: Paint) -> String {
    let text = Escaped(&entry.text).to_string();
    match entry.kind {
        Kind::Failure | Kind::Damage => paint.paint(Colour::Red, text),
        Kind::Hold | Kind::Intake => paint.paint(Colour::Yellow, text),
        Kind::Phase | Kind::Slot => text,
    }
}
