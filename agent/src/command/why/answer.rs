//! The answer of `agent why`: the verdict in one line; what is wanted and what runs; what keeps the one from being
//! the other, with the remedy; then the last deployment step by step, and the evidence for its end.

use std::fmt::Write as _;

use jiff::Timestamp;
use state::name::ServiceName;
use state::text::Escaped;

use crate::command::history;
use crate::command::status::{self, Shown};
use crate::deployment::record::{Deployment, Failure, Record};
use crate::journal::{Entry, Kind};
use crate::output::{self, Colour, Paint, age, moment, took};
use crate::status::{Health, HeldKind, Problem, ServiceView};

/// How many of the last starts and stops of a slot are shown; a slot that keeps ending would hide the rest.
const SLOT_ENTRIES: usize = 5;

/// What is known of a service.
pub(super) struct Known<'a> {
    pub(super) service: &'a ServiceName,
    /// The host's status, if an agent ever wrote one.
    pub(super) shown: Option<&'a Shown>,
    /// What the host keeps about it.
    pub(super) record: Option<&'a Record>,
    /// Its part of the journal, oldest first.
    pub(super) entries: &'a [Entry],
}

impl Known<'_> {
    /// The service's part of the status.
    pub(super) fn view(&self) -> Option<&ServiceView> {
        let services = &self.shown?.status.services;
        services.iter().find(|view| view.name == *self.service)
    }

    /// The whole answer.
    pub(super) fn explain(&self, now: Timestamp, paint: Paint) -> String {
        let mut out = self.verdict(now, paint);
        let wanted = self.record.and_then(|record| record.desired);
        let wanted = wanted.map_or_else(|| "nothing".to_owned(), |id| id.short());
        let _ = writeln!(out, "  wanted  {wanted}");
        let _ = writeln!(out, "  runs    {}", self.runs(now));
        out.push_str(&self.obstacles(now, paint));
        if let Some(deployment) = self.record.and_then(|record| record.deployment.as_ref()) {
            out.push_str(&self.story(deployment, now, paint));
        }
        out
    }

    /// The answer in one line.
    fn verdict(&self, now: Timestamp, paint: Paint) -> String {
        let service = paint.paint(Colour::Bold, self.service);
        let live = self.shown.is_some_and(|shown| shown.live);
        let Some(view) = self.view().filter(|_| live) else {
            return format!("{service} is not looked after: agent not running\n");
        };
        let (colour, word) = match (&view.held, &view.deployment, view.health) {
            (Some(held), _, _) => match held.kind {
                HeldKind::Failed => (Colour::Red, "held: what is wanted failed on this host"),
                HeldKind::Manual => (Colour::Yellow, "held by an operator of this host"),
                HeldKind::Fleet => (Colour::Yellow, "held by its author or by policy"),
                HeldKind::Refused => (Colour::Red, "held: what was admitted is refused"),
                HeldKind::Postponed => (Colour::Yellow, "waiting until this host is better"),
                HeldKind::Newer => (Colour::Red, "left alone: a newer agent wrote its files"),
                HeldKind::Limited => (Colour::Yellow, "waiting: a limit of this host is met"),
            },
            (None, Some(deployment), _) => {
                let since = age(deployment.since, now);
                let waits = status::waits(deployment);
                let text = format!("being deployed: {} for {since}{waits}", deployment.phase);
                return format!("{service} is {}\n", paint.paint(Colour::Yellow, text));
            }
            (None, None, Health::Unhealthy) => (
                Colour::Red,
                "not well: its process is down or its live probe fails",
            ),
            _ if view.is_well() => (Colour::Green, "well: it is as it was admitted"),
            _ => (
                Colour::Yellow,
                "not well yet: it was not looked at, or nothing runs",
            ),
        };
        format!("{service} is {}\n", paint.paint(colour, word))
    }

    fn runs(&self, now: Timestamp) -> String {
        let Some((slot, occupant)) = self.record.and_then(Record::stable) else {
            return "nothing".to_owned();
        };
        let (release, source) = (occupant.kept.release.short(), occupant.kept.source.short());
        let age = age(occupant.since, now);
        format!("{release} from source {source} in {slot} for {age}")
    }

    /// What keeps the wanted release from running: the host's intake, a hold, a wait.
    fn obstacles(&self, now: Timestamp, paint: Paint) -> String {
        let mut out = String::new();
        if let Some(pass) = self.shown.and_then(|shown| shown.status.pass.as_ref()) {
            if let Some(refused) = &pass.refused {
                let title = format!(
                    "nothing new is accepted: the pass {} ago was refused",
                    age(pass.time, now)
                );
                out.push_str(&problem(&title, refused, paint));
            }
            if let Some(until) = pass.fresh_until.filter(|until| *until <= now) {
                let age = age(until, now);
                let word = paint.paint(Colour::Yellow, "STALE");
                let glass = self
                    .shown
                    .and_then(|shown| shown.status.break_glass.as_ref());
                let _ = match glass {
                    Some(glass) => writeln!(
                        out,
                        "\n{word} since {age}: sequence {} may start all the same, by {}: {}",
                        glass.sequence,
                        Escaped(&glass.user),
                        Escaped(&glass.reason)
                    ),
                    None => writeln!(
                        out,
                        "\n{word} since {age}: nothing new starts until policy is heard again"
                    ),
                };
            }
        }
        if let Some(restart) = self.view().and_then(|view| view.restart.as_ref()) {
            out.push_str(&problem("not started again", restart, paint));
        }
        let Some(held) = self.view().and_then(|view| view.held.as_ref()) else {
            return out;
        };
        let title = match (held.until, held.since) {
            (Some(until), _) if held.kind == HeldKind::Limited => {
                format!("goes on at {} (in {})", moment(until), age(now, until))
            }
            (Some(until), _) => {
                format!("tried again at {} (in {})", moment(until), age(now, until))
            }
            (None, Some(since)) => format!("held since {} ({})", moment(since), age(since, now)),
            (None, None) => "refused".to_owned(),
        };
        out.push_str(&problem(&title, &held.problem, paint));
        out
    }

    /// The deployment step by step, as the journal has it, and why it ended, as the record has it.
    fn story(&self, deployment: &Deployment, now: Timestamp, paint: Paint) -> String {
        let number = deployment.number;
        let from = deployment.from.as_ref();
        let from = from.map_or_else(|| "nothing".to_owned(), |from| from.release.short());
        let (to, phase) = (deployment.to.release.short(), deployment.phase);
        let title = paint.paint(Colour::Bold, format!("deployment #{number}"));
        let mut out = format!("\n{title}: {from} → {to}, {phase}\n");
        let told: Vec<&Entry> = (self.entries.iter())
            .filter(|entry| entry.deployment == Some(number))
            .collect();
        if told.is_empty() {
            let (began, since) = (moment(deployment.started), moment(deployment.since));
            let _ = writeln!(
                out,
                "  began {began}, {phase} since {since}; the journal says no more"
            );
        }
        let cause = deployment.cause.as_ref();
        let blamed = cause.map(|cause| cause.refusal.to_string());
        let mut slots = told.iter().filter(|entry| entry.kind == Kind::Slot).count();
        for (at, entry) in told.iter().enumerate() {
            if entry.kind == Kind::Slot {
                slots -= 1;
                if slots >= SLOT_ENTRIES {
                    continue;
                }
            }
            let mut later = told[at + 1..].iter();
            let next = later.find(|later| later.kind == Kind::Phase);
            let lasted = match next {
                _ if entry.kind != Kind::Phase => String::new(),
                Some(next) => took(entry.time, next.time),
                None if phase.is_terminal() => String::new(),
                None => took(entry.time, now),
            };
            let time = paint.paint(Colour::Dim, moment(entry.time));
            let _ = writeln!(out, "  {time} {lasted:>5}  {}", history::text(entry, paint));
            if blamed.as_ref() != Some(&entry.text) {
                out.push_str(&output::evidence(&entry.evidence, "      ", paint));
            }
        }
        if let Some(cause) = cause {
            out.push_str(&evidence(cause, paint));
        }
        out
    }
}

/// Something that stands in the way, and what to do about it.
fn problem(title: &str, problem: &Problem, paint: Paint) -> String {
    let title = paint.paint(Colour::Yellow, title);
    let (code, detail) = (Escaped(&problem.code), Escaped(&problem.detail));
    let remedy = Escaped(&problem.remedy);
    format!("\n{title}\n  {code}: {detail}\n  remedy: {remedy}\n")
}

/// Why a deployment was broken off: the code, the probe's question and answer, the last lines of the log.
fn evidence(cause: &Failure, paint: Paint) -> String {
    let title = paint.paint(Colour::Bold, "cause");
    let mut out = format!("\n{title}, while {}: {}\n", cause.phase, cause.refusal);
    if let Some(probe) = &cause.probe {
        let _ = writeln!(out, "  asked and got:");
        out.push_str(&output::evidence(
            std::slice::from_ref(probe),
            "    ",
            paint,
        ));
    }
    if !cause.log.is_empty() {
        let _ = writeln!(out, "  last lines of its log:");
        out.push_str(&output::evidence(&cause.log, "    ", paint));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::sample::{self, ago, now};
    use crate::deployment::phase::Phase;
    use crate::deployment::record::{Kept, Occupant};
    use crate::slot::{Role, Slot};
    use state::durable::Extra;
    use state::{Code, Refusal};

    fn kept(byte: u8) -> Kept {
        Kept {
            release: sample::release(byte),
            source: sample::source(byte + 0xa0),
            number: 1,
            extra: Extra::default(),
        }
    }

    /// A record of `web` in which the release of 2s runs and deployment #4 to `to` stands at `phase`.
    fn record(to: u8, phase: Phase) -> Record {
        let mut record = Record::new("web".parse().unwrap());
        record.desired = Some(sample::release(to));
        let stable = Occupant {
            role: Role::Stable,
            kept: kept(0x22),
            address: None,
            attempt: "web-1".to_owned(),
            since: ago(3 * 3600),
            extra: Extra::default(),
        };
        record.slots.insert(Slot::Blue, stable);
        record.deployment = Some(Deployment {
            number: 4,
            from: Some(kept(0x11)),
            to: kept(to),
            slot: Slot::Blue,
            phase,
            attempt: 1,
            boot: String::new(),
            started: ago(100),
            since: ago(12),
            baked_at: None,
            bake_ends: None,
            cause: None,
            extra: Extra::default(),
        });
        record
    }

    fn entry(seconds: i64, kind: Kind, text: &str) -> Entry {
        Entry {
            time: ago(seconds),
            service: Some("web".parse().unwrap()),
            deployment: Some(4),
            ..Entry::new(kind, text)
        }
    }

    fn explain(view: impl FnOnce(&mut ServiceView), record: &Record, entries: &[Entry]) -> String {
        let mut status = sample::status();
        view(&mut status.services[1]);
        let known = Known {
            service: &record.service,
            shown: Some(&Shown { status, live: true }),
            record: Some(record),
            entries,
        };
        known.explain(now(), Paint::Plain)
    }

    #[test]
    fn when_all_is_well_the_first_line_says_so() {
        let record = record(0x22, Phase::Retired);
        let entries = [
            entry(
                100,
                Kind::Phase,
                "deployment of release 222222222222 begins",
            ),
            entry(95, Kind::Phase, "building: release 222222222222"),
            entry(12, Kind::Phase, "retired: release 222222222222"),
        ];
        insta::assert_snapshot!(explain(|_| (), &record, &entries), @r"
        web is well: it is as it was admitted
          wanted  222222222222
          runs    222222222222 from source c2c2c2c2c2c2 in blue for 3h

        deployment #4: 111111111111 → 222222222222, retired
          2026-11-21 11:58:20Z  5.0s  deployment of release 222222222222 begins
          2026-11-21 11:58:25Z    1m  building: release 222222222222
          2026-11-21 11:59:48Z        retired: release 222222222222
        ");
    }

    #[test]
    fn a_held_release_comes_with_its_deployment_and_all_evidence() {
        let mut record = record(0x44, Phase::RolledBack);
        let refusal = Refusal::new(Code::NotReady, "3 probes failed");
        let mut failure = entry(20, Kind::Failure, &refusal.to_string());
        failure.evidence = vec!["shown once, below".to_owned()];
        record.deployment.as_mut().unwrap().cause = Some(Failure {
            probe: Some("GET http://127.0.0.1:20000/ready → 503 \u{1b}[2J".to_owned()),
            log: vec!["listening".to_owned(), "no database".to_owned()],
            ..Failure::new(refusal, Phase::Ready)
        });
        let entries = [
            entry(100, Kind::Phase, "ready: release 444444444444"),
            failure,
            entry(20, Kind::Phase, "aborting: release 444444444444"),
            entry(12, Kind::Phase, "rolled back: release 444444444444"),
        ];
        let held = |view: &mut ServiceView| view.held = Some(sample::held(HeldKind::Failed));
        insta::assert_snapshot!(explain(held, &record, &entries), @r"
        web is held: what is wanted failed on this host
          wanted  444444444444
          runs    222222222222 from source c2c2c2c2c2c2 in blue for 3h

        held since 2026-11-21 10:00:00Z (2h)
          NOT_READY: GET /ready: 503 \u{1b}[2J, 3 times
          remedy: read its log: `agent logs web`

        deployment #4: 111111111111 → 444444444444, rolled back
          2026-11-21 11:58:20Z    1m  ready: release 444444444444
          2026-11-21 11:59:40Z        NOT_READY: 3 probes failed
          2026-11-21 11:59:40Z  8.0s  aborting: release 444444444444
          2026-11-21 11:59:48Z        rolled back: release 444444444444

        cause, while ready: NOT_READY: 3 probes failed
          asked and got:
            | GET http://127.0.0.1:20000/ready → 503 \u{1b}[2J
          last lines of its log:
            | listening
            | no database
        ");
    }

    #[test]
    fn a_lost_journal_leaves_what_the_record_knows() {
        let mut record = record(0x44, Phase::Building);
        record.slots.clear();
        let building = |view: &mut ServiceView| {
            view.running = None;
            view.deployment = Some(sample::deployment(0x44, Phase::Building));
        };
        insta::assert_snapshot!(explain(building, &record, &[]), @r"
        web is being deployed: building for 12s
          wanted  444444444444
          runs    nothing

        deployment #4: 111111111111 → 444444444444, building
          began 2026-11-21 11:58:20Z, building since 2026-11-21 11:59:48Z; the journal says no more
        ");
    }

    #[test]
    fn a_slot_that_keeps_ending_does_not_hide_the_rest() {
        let record = record(0x22, Phase::Retired);
        let mut entries = vec![entry(100, Kind::Phase, "retired: release 222222222222")];
        entries.extend((0..50).map(|at| entry(50 - at, Kind::Slot, "starts blue again")));
        let text = explain(|_| (), &record, &entries);
        assert_eq!(text.matches("starts blue again").count(), SLOT_ENTRIES);
        assert!(text.contains("retired: release"), "{text}");
    }
}
