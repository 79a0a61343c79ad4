//! The table of services: one row each, and below it what is under way and what holds it.

use jiff::Timestamp;
use state::text::Escaped;

use super::line::line;
use crate::output::{Colour, Paint, age, moment};
use crate::status::{DeploymentView, Health, HeldKind, HeldView, Problem, ServiceView};

/// The columns of the table.
const HEAD: [&str; 6] = ["SERVICE", "RELEASE", "SOURCE", "PHASE", "HEALTH", "AGE"];

/// The table of `services`, with what needs attention below each.
pub(super) fn table(services: &[ServiceView], now: Timestamp, paint: Paint) -> String {
    if services.is_empty() {
        return "no services\n".to_owned();
    }
    let rows: Vec<[String; 6]> = services.iter().map(|service| row(service, now)).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(HEAD[column].len())
    });
    let mut out = cells(
        &HEAD.map(str::to_owned),
        widths,
        [Some(Colour::Dim); 6],
        paint,
    );
    for (service, row) in services.iter().zip(&rows) {
        let colours = [
            None,
            None,
            None,
            phase(service),
            health(service.health).1,
            None,
        ];
        out.push_str(&cells(row, widths, colours, paint));
        if let Some(deployment) = &service.deployment {
            let text = under_way(deployment, now);
            out.push_str(&line("deploy", Colour::Yellow, paint, &text));
        }
        if let Some(problem) = &service.restart {
            out.push_str(&told("not started", Colour::Red, problem, paint));
        }
        if let Some(held) = &service.held {
            out.push_str(&why(held, service, now, paint));
        }
    }
    out
}

fn row(service: &ServiceView, now: Timestamp) -> [String; 6] {
    let running = service.running.as_ref();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        service.name.to_string(),
        or_dash(running.map(|running| running.release.short())),
        or_dash(running.map(|running| running.source.short())),
        Escaped(&service.phase).to_string(),
        health(service.health).0.to_owned(),
        or_dash(running.map(|running| age(running.since, now))),
    ]
}

/// One row of the table; the colours count for nothing in its width.
fn cells(
    row: &[String; 6],
    widths: [usize; 6],
    colours: [Option<Colour>; 6],
    paint: Paint,
) -> String {
    let mut out = String::new();
    for (column, (cell, colour)) in row.iter().zip(colours).enumerate() {
        // The last column is as wide as its text, so that no line ends in blanks.
        let width = if column + 1 < row.len() {
            widths[column] + 2
        } else {
            0
        };
        let padded = format!("{cell:width$}");
        out.push_str(&colour.map_or(padded.clone(), |colour| paint.paint(colour, padded)));
    }
    out.push('\n');
    out
}

fn phase(service: &ServiceView) -> Option<Colour> {
    match service.phase.as_str() {
        "live" | "stopped" | "absent" => None,
        "failed" | "aborting" => Some(Colour::Red),
        _ => Some(Colour::Yellow),
    }
}

const fn health(health: Health) -> (&'static str, Option<Colour>) {
    match health {
        Health::Healthy => ("healthy", Some(Colour::Green)),
        Health::Unhealthy => ("unhealthy", Some(Colour::Red)),
        Health::Unknown => ("unknown", None),
        Health::Stopped => ("-", None),
    }
}

/// `#4 to 333333333333 from source cccccccccccc: baking, 2m left`.
fn under_way(deployment: &DeploymentView, now: Timestamp) -> String {
    let (number, phase) = (deployment.number, deployment.phase);
    let (release, source) = (deployment.release.short(), deployment.source.short());
    let time = match deployment.baked_at.filter(|end| now < *end) {
        Some(end) => format!(", {} left", age(now, end)),
        None => format!(" for {}", age(deployment.since, now)),
    };
    let waits = waits(deployment);
    format!("#{number} to {release} from source {source}: {phase}{time}{waits}")
}

/// `, waits for another build to end`; empty if it does not wait.
pub(in crate::command) fn waits(deployment: &DeploymentView) -> String {
    let waits_for = deployment.waits_for.as_ref();
    waits_for.map_or_else(String::new, |what| format!(", waits for {}", Escaped(what)))
}

/// A problem, and what to do about it.
fn told(word: &str, colour: Colour, problem: &Problem, paint: Paint) -> String {
    let (code, detail) = (Escaped(&problem.code), Escaped(&problem.detail));
    let remedy = Escaped(&problem.remedy);
    line(word, colour, paint, &format!("{code}: {detail}"))
        + &line("remedy", Colour::Dim, paint, &remedy)
}

fn why(held: &HeldView, service: &ServiceView, now: Timestamp, paint: Paint) -> String {
    let word = match held.kind {
        HeldKind::Failed | HeldKind::Manual | HeldKind::Fleet => "held",
        HeldKind::Refused => "refused",
        HeldKind::Postponed | HeldKind::Limited => "waits",
        HeldKind::Newer => "left alone",
    };
    let mut out = told(word, Colour::Yellow, &held.problem, paint);
    let release = match service.desired {
        Some(release) if !matches!(held.kind, HeldKind::Refused | HeldKind::Fleet) => {
            format!(", release {}", release.short())
        }
        _ => String::new(),
    };
    if let Some(until) = held.until {
        let text = format!("{} (in {}){release}", moment(until), age(now, until));
        out.push_str(&line("until", Colour::Dim, paint, &text));
    } else if let Some(since) = held.since {
        let text = format!("{} ({} ago){release}", moment(since), age(since, now));
        out.push_str(&line("since", Colour::Dim, paint, &text));
    }
    out
}
