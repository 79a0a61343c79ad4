//! `agent status`: this host on one screen.

use std::fmt::Write as _;

use anyhow::bail;
use jiff::Timestamp;
use state::text::Escaped;
use state::{Code, Refusal};

use super::{Exit, Place};
use crate::output::{Colour, Paint, age, moment};
use crate::socket::{self, Answer, Request};
use crate::status::{Health, HeldKind, HeldView, ServiceView, Status};

/// Show how this host and its services are
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Print JSON; see docs/reference/status.md.
    #[arg(long)]
    json: bool,
}

/// A status and who told it.
pub(super) struct Shown {
    /// The status.
    pub(super) status: Status,
    /// Whether a running agent told it; else it is what the last one wrote.
    pub(super) live: bool,
}

pub(super) fn cmd_status(place: &Place, args: &StatusArgs) -> anyhow::Result<Exit> {
    let Some(shown) = read(place)? else {
        if !place.layout.floor().exists() {
            let detail = format!("'{}' does not exist", place.layout.floor().display());
            return Err(Refusal::new(Code::StateMissing, detail).into());
        }
        eprintln!("agent not running, and it has never written a status");
        return Ok(Exit::Unknown);
    };
    let now = Timestamp::now();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&shown.status)?);
    } else {
        print!(
            "{}",
            render(&shown.status, now, Paint::of(&std::io::stdout()))
        );
    }
    if shown.live {
        return Ok(exit(&shown.status, now));
    }
    eprintln!(
        "agent not running: this is what it wrote {} ago",
        age(shown.status.time, now)
    );
    Ok(Exit::Unknown)
}

/// The status, from the running agent or, without one, from its file.
pub(super) fn read(place: &Place) -> anyhow::Result<Option<Shown>> {
    match socket::ask(&place.layout.agent_socket(), &Request::Status {})? {
        Some(Answer::Status(status)) => Ok(Some(Shown {
            status: *status,
            live: true,
        })),
        Some(other) => bail!("the agent answered something else: {other:?}"),
        None => {
            let Ok(bytes) = std::fs::read(place.layout.status()) else {
                return Ok(None);
            };
            let status = serde_json::from_slice(&bytes)?;
            Ok(Some(Shown {
                status,
                live: false,
            }))
        }
    }
}

/// What the status comes to.
pub(super) fn exit(status: &Status, now: Timestamp) -> Exit {
    if status.is_well(now) {
        Exit::Well
    } else {
        Exit::NotWell
    }
}

/// The status as one screen.
pub(super) fn render(status: &Status, now: Timestamp, paint: Paint) -> String {
    let mut out = head(status, now, paint);
    out.push_str(&table(status, now, paint));
    for note in &status.degraded {
        let _ = writeln!(
            out,
            "{}: {}",
            paint.paint(Colour::Yellow, "degraded"),
            Escaped(note)
        );
    }
    out
}

fn head(status: &Status, now: Timestamp, paint: Paint) -> String {
    let host = paint.paint(Colour::Bold, &status.host);
    let domain = status
        .domain
        .strip_prefix("sha256:")
        .unwrap_or(&status.domain);
    let domain: String = domain.chars().take(12).collect();
    let mut out = format!("{host} in {}, domain {domain}\n", status.environment);
    let Some(pass) = &status.pass else {
        out.push_str("no pass yet\n\n");
        return out;
    };
    let freshness = match pass.fresh_until {
        Some(until) if now < until => {
            paint.paint(Colour::Green, format!("fresh for {}", age(now, until)))
        }
        Some(until) => paint.paint(Colour::Red, format!("STALE since {}", moment(until))),
        None => paint.paint(Colour::Red, "nothing accepted yet"),
    };
    let (sequence, last) = (pass.sequence, age(pass.time, now));
    let _ = writeln!(
        out,
        "sequence {sequence}, {freshness}, last pass {last} ago"
    );
    if let Some(refused) = &pass.refused {
        let word = paint.paint(Colour::Red, "refused");
        let _ = writeln!(
            out,
            "{word}: {}: {}",
            refused.code,
            Escaped(&refused.detail)
        );
        let _ = writeln!(out, "remedy: {}", refused.remedy);
    }
    out.push('\n');
    out
}

const HEAD: [&str; 6] = ["SERVICE", "RELEASE", "SOURCE", "PHASE", "HEALTH", "AGE"];

fn table(status: &Status, now: Timestamp, paint: Paint) -> String {
    if status.services.is_empty() {
        return "no services\n".to_owned();
    }
    let rows: Vec<[String; 6]> = status
        .services
        .iter()
        .map(|service| row(service, now))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(HEAD[column].len())
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut out = String::new();
    let line = |cells: [&str; 6], colours: [Option<Colour>; 6]| {
        let mut line = String::new();
        for ((cell, width), colour) in cells.iter().zip(widths).zip(colours) {
            let padded = format!("{cell:width$}");
            let _ = match colour {
                Some(colour) => write!(line, "{}  ", paint.paint(colour, padded)),
                None => write!(line, "{padded}  "),
            };
        }
        format!("{}\n", line.trim_end())
    };
    out.push_str(&line(HEAD, [Some(Colour::Dim); 6]));
    for (service, row) in status.services.iter().zip(&rows) {
        let cells: [&str; 6] = std::array::from_fn(|column| row[column].as_str());
        let colours = [
            None,
            None,
            None,
            phase_colour(service),
            health_colour(service),
            None,
        ];
        out.push_str(&line(cells, colours));
        out.push_str(&below(service, now, paint));
    }
    out
}

fn row(service: &ServiceView, now: Timestamp) -> [String; 6] {
    let dash = || "-".to_owned();
    let running = service.running.as_ref();
    [
        service.name.to_string(),
        running.map_or_else(dash, |running| running.release.short()),
        running.map_or_else(dash, |running| running.source.short()),
        service.phase.clone(),
        health(service.health).to_owned(),
        running.map_or_else(dash, |running| age(running.since, now)),
    ]
}

const fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
        Health::Unknown => "unknown",
        Health::Stopped => "-",
    }
}

fn phase_colour(service: &ServiceView) -> Option<Colour> {
    match service.phase.as_str() {
        "live" | "stopped" | "absent" => None,
        "failed" | "aborting" => Some(Colour::Red),
        _ => Some(Colour::Yellow),
    }
}

const fn health_colour(service: &ServiceView) -> Option<Colour> {
    match service.health {
        Health::Healthy => Some(Colour::Green),
        Health::Unhealthy => Some(Colour::Red),
        Health::Unknown | Health::Stopped => None,
    }
}

/// What stands below a service's line: the deployment under way, why it is held, what it lacks.
fn below(service: &ServiceView, now: Timestamp, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(deployment) = &service.deployment {
        let (release, source) = (deployment.release.short(), deployment.source.short());
        let left = deployment.baked_at.filter(|end| now < *end);
        let time = match left {
            Some(end) => format!("{} left", age(now, end)),
            None => format!("for {}", age(deployment.since, now)),
        };
        let phase = paint.paint(Colour::Yellow, deployment.phase);
        let _ = writeln!(out, "  next    {release}, source {source}: {phase}, {time}");
    }
    if let Some(held) = &service.held {
        out.push_str(&why(held, service, now, paint));
    }
    for note in &service.degraded {
        let _ = writeln!(out, "  note    {}", Escaped(note));
    }
    out
}

fn why(held: &HeldView, service: &ServiceView, now: Timestamp, paint: Paint) -> String {
    let word = match held.kind {
        HeldKind::Failed | HeldKind::Manual => "held",
        HeldKind::Refused => "refused",
        HeldKind::Postponed => "waits",
    };
    let what = match (held.kind, service.desired) {
        (HeldKind::Failed | HeldKind::Postponed, Some(release)) => format!("{}: ", release.short()),
        _ => String::new(),
    };
    let word = paint.paint(Colour::Yellow, format!("{word:7}"));
    let (code, detail) = (&held.problem.code, Escaped(&held.problem.detail));
    let mut out = format!("  {word} {what}{code}: {detail}\n");
    if let Some(until) = held.until {
        let _ = writeln!(out, "          tried again in {}", age(now, until));
    }
    let _ = writeln!(out, "          {}", held.problem.remedy);
    out
}
