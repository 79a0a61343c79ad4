//! A service with nothing to deploy: what runs is watched and started again when it must be.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use state::Refusal;
use tokio::time::Instant;

use super::{Due, ServiceTask, Turn};
use crate::deployment::launch;
use crate::journal::Kind;
use crate::probe::Unwell;
use crate::probe::watch::{self, Watched};
use crate::runner::SlotStatus;
use crate::service::plan::Action;
use crate::slot::Slot;
use crate::status::Health;
use crate::wait;

/// The longest wait before a stable slot is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long a slot must have been well for its next restart to be without a wait again.
const WELL_AGAIN: Duration = Duration::from_secs(60);

/// Why a look ended.
enum Seen {
    Unwell(Slot, Unwell),
    Due,
}

impl ServiceTask {
    /// Watches what runs until there is something to do, at the latest at `until`.
    pub(super) async fn idle(&mut self, until: Option<Timestamp>) -> Result<Turn, Refusal> {
        if let Err(refusal) = self.ensure_routes().await {
            tracing::warn!(service = %self.guard.get().service, %refusal, "cannot serve");
        }
        self.collect().await;
        let stable = self.guard.get().stable();
        let attempt = stable.map(|(_, occupant)| &occupant.attempt);
        self.due.take_if(|due| attempt != Some(&due.attempt));
        let watched = self.watched();
        self.health = match &watched {
            Some(watched) => self.glance(watched),
            None if self.guard.get().stable().is_some() => Health::Unknown,
            None => Health::Stopped,
        };
        self.show();
        self.settled.send_replace(self.serial);
        let host = Arc::clone(&self.host);
        let (report, mut reports) = tokio::sync::watch::channel(self.health);
        let due = self.due.as_ref().map(|due| due.at);
        let watch = async {
            match (&watched, due) {
                (_, Some(at)) => {
                    wait::until(Some(at)).await;
                    Seen::Due
                }
                (Some(watched), None) => {
                    let report = |health| {
                        report.send_if_modified(|old| std::mem::replace(old, health) != health);
                    };
                    Seen::Unwell(watched.slot, watch::upkeep(&host, watched, report).await)
                }
                (None, None) => std::future::pending().await,
            }
        };
        tokio::pin!(watch);
        let begun = Instant::now();
        // By a clock that nobody sets back: a wait is never longer than it was when it began.
        let end = until.map(|until| {
            let left = until.duration_since(Timestamp::now());
            begun + Duration::try_from(left).unwrap_or_default()
        });
        loop {
            tokio::select! {
                seen = &mut watch => {
                    match seen {
                        Seen::Unwell(slot, unwell) => {
                            if begun.elapsed() > WELL_AGAIN {
                                self.restarts = 0;
                            }
                            self.put_off(slot, &unwell);
                        }
                        Seen::Due => self.restart().await,
                    }
                    return Ok(Turn::Again);
                }
                Ok(()) = reports.changed() => {
                    self.health = *reports.borrow_and_update();
                    self.show();
                }
                () = wait::until(end) => return Ok(Turn::Again),
                message = self.inbox.recv() => {
                    let Some(message) = message else { return Ok(Turn::End) };
                    self.receive(message)?;
                    let action = self.plan(Timestamp::now());
                    let changed = matches!(action, Action::Waiting { until: new, .. } if Some(new) != until);
                    // A slot that was adopted without its release can be watched once that was verified.
                    let unwatched = watched.is_none() && self.watched().is_some();
                    if changed || unwatched || !action.is_settled() {
                        return Ok(Turn::Again);
                    }
                    self.show();
                    self.settled.send_replace(self.serial);
                }
            }
        }
    }

    /// What is watched: the stable slot, if its release can be read.
    fn watched(&self) -> Option<Watched> {
        let record = self.guard.get();
        let (slot, occupant) = record.stable()?;
        let release = self.release(&occupant.kept).ok()?;
        Some(Watched {
            service: record.service.clone(),
            slot,
            probes: release.spec.health.clone(),
            target: launch::target(&self.host, &release, slot, occupant),
        })
    }

    /// The health as far as a look at the process tells.
    fn glance(&self, watched: &Watched) -> Health {
        match self.host.runner.status(&watched.service, watched.slot) {
            SlotStatus::Running { .. } if self.health == Health::Unhealthy => Health::Unhealthy,
            SlotStatus::Running { .. } => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Has the stable slot started again, later each time, until it stays well.
    fn put_off(&mut self, slot: Slot, unwell: &Unwell) {
        self.health = Health::Unhealthy;
        let wait = if self.restarts == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs(1 << (self.restarts - 1).min(6)).min(LONGEST_WAIT)
        };
        self.restarts += 1;
        let evidence = unwell
            .answer
            .iter()
            .map(|answer| format!("{} → {}", answer.request, answer.answer));
        let text = format!("starts {slot} again in {wait:?}: {}", unwell.refusal);
        self.note(Kind::Slot, &text, evidence.collect());
        self.due = self.guard.get().stable().map(|(_, occupant)| Due {
            attempt: occupant.attempt.clone(),
            at: Instant::now() + wait,
        });
    }
}
