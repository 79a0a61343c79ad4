//! `agent plan`: what would happen now, and why. Changes nothing: it looks through a mirror of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use similar::{ChangeTag, TextDiff};
use state::digest::{PayloadHash, ReleaseId};
use state::git::worker::Worker;
use state::name::ServiceName;
use state::service::DesiredState;
use state::text::Escaped;
use state::{Code, Refusal};

use super::{Exit, Place, runtime};
use crate::config::Limits;
use crate::deployment::record::{Guard, Kept, Record, VerifiedId};
use crate::output::{self, Colour, Paint, moment};
use crate::remotes::floor::Durability;
use crate::remotes::keeper::Keeper;
use crate::remotes::wanted::Wanted;
use crate::remotes::{Intake, Patience};
use crate::service::plan::{Action, Wish, decide};

/// Show what would happen now and why, with the difference between what runs and what is admitted
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// Only this service.
    service: Option<ServiceName>,
}

pub(super) fn cmd_plan(place: &Place, args: &PlanArgs) -> anyhow::Result<Exit> {
    let config = place.config()?;
    let records = records(place)?;
    let present: Vec<ServiceName> = records.keys().cloned().collect();
    let keeper = Arc::new(Records {
        program: std::env::current_exe()?,
        records: records.clone(),
    });
    let mut intake = Intake::new(&place.layout, &config, keeper, Durability::Look)?;
    let runtime = runtime()?;
    runtime.block_on(intake.look(&present, Patience::Deadlines));
    runtime.shutdown_background();
    let outcome = intake.outcome();
    let now = Timestamp::now();
    if let Some(refused) = outcome.refused {
        return Err(refused.into());
    }
    let Some(believed) = &outcome.believed else {
        return Ok(Exit::NotWell);
    };
    if let Some(only) = &args.service
        && !believed.wanted.iter().any(|(service, _)| service == only)
    {
        return Err(Refusal::new(Code::UnknownService, format!("'{only}'")).into());
    }
    let paint = Paint::of(&std::io::stdout());
    let stale = believed.is_stale(now);
    let freshness = if stale {
        "STALE: nothing new starts"
    } else {
        "fresh"
    };
    output::print(&format!("sequence {}, {freshness}\n", believed.sequence))?;
    for (service, wanted) in &believed.wanted {
        if args.service.as_ref().is_some_and(|only| only != service) {
            continue;
        }
        let record = records.get(service);
        let fresh = Record::new(service.clone());
        let wanted = if stale { &Wanted::Nothing } else { wanted };
        let record = record.unwrap_or(&fresh);
        output::print(&one(place, record, wanted, &config.limits, now, paint))?;
    }
    Ok(if stale { Exit::NotWell } else { Exit::Well })
}

/// What an agent that is not running would know.
#[derive(Debug)]
struct Records {
    program: PathBuf,
    records: BTreeMap<ServiceName, Record>,
}

impl Keeper for Records {
    fn knows(&self, service: &ServiceName, release: &ReleaseId, origin: &PayloadHash) -> bool {
        let same = |id: &VerifiedId| id.release == *release && id.origin == *origin;
        let record = self.records.get(service);
        record.is_some_and(|record| record.verified.iter().any(same))
    }

    fn note_damage(&self, text: &str) {
        tracing::warn!("{}", Escaped(text));
    }

    fn worker(&self) -> Worker {
        Worker::new(self.program.clone(), vec![OsString::from("fetch-worker")])
    }
}

fn records(place: &Place) -> anyhow::Result<BTreeMap<ServiceName, Record>> {
    let mut records = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(place.layout.services()) else {
        return Ok(records);
    };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Ok(service) = name.parse::<ServiceName>() else {
            continue;
        };
        if let Some(record) = Guard::read(&place.layout.service(&service).record(), &service)? {
            records.insert(service, record);
        }
    }
    Ok(records)
}

/// One service: what would happen, and the difference that it would make.
fn one(
    place: &Place,
    record: &Record,
    wanted: &Wanted,
    limits: &Limits,
    now: Timestamp,
    paint: Paint,
) -> String {
    let service = paint.paint(Colour::Bold, &record.service);
    let wish = match wanted {
        Wanted::Release(release) => Some(Wish {
            release: release.id(),
            state: release.spec.state,
        }),
        Wanted::Leave => record.desired.map(|release| Wish {
            release,
            state: DesiredState::Absent,
        }),
        Wanted::Refused(refusal) => {
            let word = paint.paint(Colour::Red, "refused");
            return format!("{service}: {word}: {refusal}\n  {}\n", refusal.remedy());
        }
        Wanted::Nothing => None,
    };
    let action = decide(wish, record, limits, now);
    let mut out = format!("{service}: {}\n", sentence(&action, paint));
    if let (Action::Deploy { .. }, Wanted::Release(release)) = (&action, wanted) {
        let running = record
            .stable()
            .and_then(|(_, occupant)| on_disk(place, &record.service, &occupant.kept));
        out.push_str(&difference(
            &running.unwrap_or_default(),
            &release.to_yaml(),
            paint,
        ));
    }
    out
}

fn sentence(action: &Action, paint: Paint) -> String {
    let from =
        |from: &Option<ReleaseId>| from.map_or_else(|| "nothing".to_owned(), |id| id.short());
    let act = |text: String| paint.paint(Colour::Green, text);
    let wait = |text: String| paint.paint(Colour::Yellow, text);
    match action {
        Action::Keep => "nothing to do".to_owned(),
        Action::Continue => act("goes on with the deployment under way".to_owned()),
        Action::Abort(why) => wait(format!("breaks the deployment under way off: {why}")),
        Action::Deploy { from: old, to } => act(format!("deploys {} → {}", from(old), to.short())),
        Action::Return { from: old, to } => {
            act(format!("goes back {} → {}", from(old), to.release.short()))
        }
        Action::Stop => wait("stops; what is on disk stays".to_owned()),
        Action::Remove => wait("stops and leaves this host; its data stays".to_owned()),
        Action::Held(why) => wait(format!("held: {why}\n  {}", why.remedy())),
        Action::Waiting { until, why } => wait(format!("waits until {}: {why}", moment(*until))),
    }
}

fn on_disk(place: &Place, service: &ServiceName, kept: &Kept) -> Option<String> {
    let folder = place
        .layout
        .service(service)
        .release(&kept.release, kept.number);
    std::fs::read_to_string(folder.join("release.yaml")).ok()
}

/// What changes between two releases, without where they were rendered from.
fn difference(old: &str, new: &str, paint: Paint) -> String {
    let diff = TextDiff::from_lines(old, new);
    let mut out = String::new();
    for group in diff.grouped_ops(3) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = Escaped(change.value().trim_end_matches('\n'));
            let _ = match change.tag() {
                ChangeTag::Equal => writeln!(out, "    {line}"),
                ChangeTag::Delete => {
                    writeln!(out, "{}", paint.paint(Colour::Red, format!("  - {line}")))
                }
                ChangeTag::Insert => {
                    writeln!(out, "{}", paint.paint(Colour::Green, format!("  + {line}")))
                }
            };
        }
    }
    out
}
