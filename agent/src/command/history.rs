//! `agent history`: what happened on this host.

use std::fmt::Write as _;

use anyhow::bail;
use state::name::ServiceName;
use state::text::Escaped;
use state::{Code, Refusal};

use super::{Exit, Place, status};
use crate::deployment::record::Guard;
use crate::journal::{Entry, Kind};
use crate::output::{self, Colour, Paint, moment};
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
    /// Print JSON: an object a line for each entry.
    #[arg(long)]
    json: bool,
}

pub(super) fn cmd_history(place: &Place, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let entries = read(place, args.service.as_ref(), args.limit)?;
    if let Some(service) = args.service.as_ref().filter(|_| entries.is_empty()) {
        // One that left this host is known by what happened to it.
        known(place, service)?;
    }
    let text = if args.json {
        json_lines(&entries)?
    } else {
        render(&entries, Paint::of(&std::io::stdout()))
    };
    output::print(&text)?;
    Ok(Exit::Well)
}

/// Checks that this host has the service, or should have it.
///
/// # Errors
/// `UNKNOWN_SERVICE`.
fn known(place: &Place, service: &ServiceName) -> anyhow::Result<()> {
    let shown = status::read(place)?;
    let services = shown.into_iter().flat_map(|shown| shown.status.services);
    let is_shown = services.into_iter().any(|view| view.name == *service);
    if is_shown || Guard::read(&place.layout.service(service).record(), service)?.is_some() {
        return Ok(());
    }
    Err(Refusal::new(Code::UnknownService, format!("'{service}'")).into())
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
        None => socket::history(&place.host(Progress::default())?.journal, service, limit),
    };
    match answer {
        Answer::History(entries) => Ok(entries),
        Answer::Refused(refusal) => Err(refusal.into()),
        other => bail!("the agent answered something else: {other:?}"),
    }
}

/// The entries as programs read them.
fn json_lines(entries: &[Entry]) -> serde_json::Result<String> {
    let mut out = String::new();
    for entry in entries {
        out.push_str(&serde_json::to_string(entry)?);
        out.push('\n');
    }
    Ok(out)
}

/// One line for each entry: when, which service, in which of its deployments, and what; the evidence below it.
fn render(entries: &[Entry], paint: Paint) -> String {
    if entries.is_empty() {
        return "nothing has happened yet\n".to_owned();
    }
    let name = |entry: &Entry| {
        let service = entry.service.as_ref();
        service.map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    let number = |entry: &Entry| {
        let number = entry.deployment.map(|number| format!("#{number}"));
        number.unwrap_or_default()
    };
    let width = |text: &dyn Fn(&Entry) -> String| {
        let widths = entries.iter().map(|entry| text(entry).len());
        widths.max().unwrap_or(0)
    };
    let (names, numbers) = (width(&name), width(&number));
    let mut out = String::new();
    for entry in entries {
        let (name, number) = (name(entry), number(entry));
        let time = paint.paint(Colour::Dim, moment(entry.time));
        let text = text(entry, paint);
        let _ = writeln!(out, "{time}  {name:names$}  {number:numbers$}  {text}");
        out.push_str(&output::evidence(&entry.evidence, "    ", paint));
    }
    out
}

/// What happened, coloured by its kind.
pub(super) fn text(entry: &Entry, paint: Paint) -> String {
    let text = Escaped(&entry.text).to_string();
    match entry.kind {
        Kind::Failure | Kind::Damage => paint.paint(Colour::Red, text),
        Kind::Hold | Kind::Intake => paint.paint(Colour::Yellow, text),
        Kind::Phase | Kind::Slot | Kind::Other => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: i64, service: Option<&str>, deployment: Option<u32>, text: &str) -> Entry {
        Entry {
            time: jiff::Timestamp::from_second(1_800_000_000 + second).unwrap(),
            service: service.map(|name| name.parse().unwrap()),
            deployment,
            ..Entry::new(Kind::Phase, text)
        }
    }

    fn entries() -> Vec<Entry> {
        let mut failure = entry(3, Some("web"), Some(12), "NOT_READY: no answer");
        failure.kind = Kind::Failure;
        failure.evidence = vec!["GET /health → 503 \u{1b}[2J".to_owned()];
        let intake = entry(0, None, None, "sequence 7 accepted");
        vec![intake, entry(2, Some("web"), Some(9), "ready"), failure]
    }

    #[test]
    fn entries_are_aligned_with_their_evidence_below() {
        insta::assert_snapshot!(render(&entries(), Paint::Plain), @r"
        2027-01-15 08:00:00Z  -         sequence 7 accepted
        2027-01-15 08:00:02Z  web  #9   ready
        2027-01-15 08:00:03Z  web  #12  NOT_READY: no answer
            | GET /health → 503 \u{1b}[2J
        ");
        assert_eq!(render(&[], Paint::Plain), "nothing has happened yet\n");
    }

    #[test]
    fn programs_get_an_entry_a_line() {
        let text = json_lines(&entries()).unwrap();
        let read = text.lines().map(|line| serde_json::from_str(line).unwrap());
        assert_eq!(read.collect::<Vec<Entry>>(), entries());
    }
}
