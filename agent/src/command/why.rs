//! `agent why SERVICE`: why something did, or did not, happen to a service, with the evidence.

use std::fmt::Write as _;

use jiff::Timestamp;
use state::name::ServiceName;
use state::text::Escaped;
use state::{Code, Refusal};

use super::{Exit, Place, history, status};
use crate::journal::Entry;
use crate::output::{self, Colour, Paint, age, moment};
use crate::record::{Deployment, Guard, Record};
use crate::status::{HeldView, ServiceView};

/// How far back the journal is looked through.
const ENTRIES: usize = 500;

/// Explain the last deployment of a service, and what keeps another from it
#[derive(Debug, clap::Args)]
pub(super) struct WhyArgs {
    /// The service.
    service: ServiceName,
}

pub(super) fn cmd_why(place: &Place, args: &WhyArgs) -> anyhow::Result<Exit> {
    let service = &args.service;
    let shown = status::read(place)?;
    let view = shown.and_then(|shown| {
        let mut services = shown.status.services.into_iter();
        services.find(|view| view.name == *service)
    });
    let record = Guard::read(&place.layout.service(service).record(), service)?;
    if record.is_none() && view.is_none() {
        let detail = format!("'{service}'");
        return Err(Refusal::new(Code::UnknownService, detail).into());
    }
    let entries = history::read(place, Some(service), ENTRIES)?;
    let paint = Paint::of(&std::io::stdout());
    let now = Timestamp::now();
    print!(
        "{}",
        explain(
            service,
            record.as_ref(),
            view.as_ref(),
            &entries,
            now,
            paint
        )
    );
    Ok(Exit::Well)
}

fn explain(
    service: &ServiceName,
    record: Option<&Record>,
    view: Option<&ServiceView>,
    entries: &[Entry],
    now: Timestamp,
    paint: Paint,
) -> String {
    let mut out = String::new();
    let title = paint.paint(Colour::Bold, service);
    match record.and_then(Record::stable) {
        Some((slot, occupant)) => {
            let (release, source) = (occupant.kept.release.short(), occupant.kept.source.short());
            let age = age(occupant.since, now);
            let _ = writeln!(
                out,
                "{title} runs release {release}, source {source}, in {slot}, for {age}"
            );
        }
        None => {
            let _ = writeln!(out, "{title} runs nothing");
        }
    }
    if let Some(held) = view.and_then(|view| view.held.as_ref()) {
        out.push_str(&why_held(held, now, paint));
    }
    if let Some(deployment) = record.and_then(|record| record.deployment.as_ref()) {
        out.push_str(&last_deployment(deployment, entries, paint));
    }
    out
}

fn why_held(held: &HeldView, now: Timestamp, paint: Paint) -> String {
    let (code, detail) = (&held.problem.code, Escaped(&held.problem.detail));
    let since = held
        .since
        .map(|since| format!(" for {}", age(since, now)))
        .unwrap_or_default();
    let word = paint.paint(Colour::Yellow, "held");
    let mut out = format!("{word}{since}: {code}: {detail}\n");
    if let Some(until) = held.until {
        let _ = writeln!(out, "tried again at {}", moment(until));
    }
    let _ = writeln!(out, "remedy: {}", held.problem.remedy);
    out
}

fn last_deployment(deployment: &Deployment, entries: &[Entry], paint: Paint) -> String {
    let (number, to) = (deployment.number, deployment.to.release.short());
    let from = deployment
        .from
        .as_ref()
        .map_or_else(|| "nothing".to_owned(), |from| from.release.short());
    let mut out = format!(
        "\ndeployment #{number}: {from} → {to}, {}\n",
        deployment.phase
    );
    let known = entries
        .iter()
        .filter(|entry| entry.deployment == Some(number));
    for entry in known {
        let time = paint.paint(Colour::Dim, moment(entry.time));
        let _ = writeln!(out, "  {time}  {}", history::text(entry, paint));
        out.push_str(&output::evidence(&entry.evidence, "      ", paint));
    }
    let told = entries.iter().any(|entry| entry.deployment == Some(number));
    if let (Some(cause), false) = (&deployment.cause, told) {
        // The journal was lost; the record still knows the reason.
        let _ = writeln!(out, "  {}: {}", cause.phase, cause.refusal);
        let probe: Vec<String> = cause.probe.iter().chain(&cause.log).cloned().collect();
        out.push_str(&output::evidence(&probe, "      ", paint));
    }
    out
}
