//! What the status shows of a service.

use jiff::Timestamp;
use state::Code;
use state::durable::Extra;
use state::service::DesiredState;

use super::ServiceTask;
use crate::deployment::record::{ManualHold, Record};
use crate::service::plan::Action;
use crate::status::{
    DeploymentView, Health, HeldKind, HeldView, Problem, ReleaseView, ServiceView,
};

impl ServiceTask {
    /// Shows the service as it is now.
    pub(super) fn show(&self) {
        let record = self.guard.get();
        let mut view = view(record, self.wish.map(|wish| wish.state), self.health);
        view.held = self.held();
        view.restart = self.unstarted();
        if let Some(deployment) = &mut view.deployment {
            deployment.waits_for.clone_from(&self.waits_for);
        }
        if let Some((_, occupant)) = record.stable()
            && let Ok(release) = self.release(&occupant.kept)
            && self.host.runner.cannot_enforce(&release.spec.run.limits)
        {
            view.degraded.push("limits are not enforced".to_owned());
        }
        self.host.board.show(view);
    }

    fn held(&self) -> Option<HeldView> {
        let record = self.guard.get();
        let held = |kind, since, problem| HeldView {
            kind,
            since,
            until: None,
            problem,
        };
        if let Some(refused) = &self.refused {
            let kind = match refused.code {
                Code::Held => HeldKind::Fleet,
                _ => HeldKind::Refused,
            };
            return Some(held(kind, None, Problem::from(refused)));
        }
        if let Some(manual) = &record.manual {
            let (since, detail) = match manual {
                ManualHold::Frozen { since, .. } => {
                    (*since, "nothing is deployed until it is resumed".to_owned())
                }
                ManualHold::RolledBack {
                    since, from, to, ..
                } if record.desired == Some(*from) => (
                    *since,
                    format!(
                        "release {} runs instead of {}",
                        to.release.short(),
                        from.short()
                    ),
                ),
                ManualHold::RolledBack { .. } | ManualHold::Unknown(_) => {
                    return self.held_by_plan();
                }
            };
            let problem = Problem {
                code: "HELD".to_owned(),
                detail,
                remedy: format!("`agent resume {}` ends it", record.service),
            };
            return Some(held(HeldKind::Manual, Some(since), problem));
        }
        self.held_by_plan()
    }

    /// What the plan says; without a wish, what the record says of the release that was admitted last.
    fn held_by_plan(&self) -> Option<HeldView> {
        let record = self.guard.get();
        if let Action::Waiting { until, why } = self.plan(Timestamp::now()) {
            let mut problem = Problem::from(&why);
            let limited = why.code.is_rate();
            let kind = if limited {
                let service = &record.service;
                problem.remedy = format!(
                    "none is needed: it goes on by itself; `agent retry {service}` does not wait"
                );
                HeldKind::Limited
            } else {
                HeldKind::Postponed
            };
            return Some(HeldView {
                kind,
                since: None,
                until: Some(until),
                problem,
            });
        }
        let failed = record.failed.as_ref();
        let hold = failed.filter(|hold| record.desired == Some(hold.release))?;
        Some(HeldView {
            kind: HeldKind::Failed,
            since: Some(hold.since),
            until: None,
            problem: Problem::from(&hold.failure.refusal),
        })
    }
}

/// The part of the view that follows from the record.
fn view(record: &Record, wanted: Option<DesiredState>, health: Health) -> ServiceView {
    let stable = record.stable();
    let deployment = record.active();
    let phase = match (deployment, stable, wanted) {
        (Some(deployment), _, _) => deployment.phase.as_str(),
        (None, Some(_), _) => "live",
        (None, None, Some(DesiredState::Absent)) => "absent",
        (None, None, Some(DesiredState::Stopped)) => "stopped",
        (None, None, _) if record.failed.is_some() => "failed",
        (None, None, _) => "waiting",
    };
    ServiceView {
        name: record.service.clone(),
        phase: phase.to_owned(),
        health: if stable.is_some() {
            health
        } else {
            Health::Stopped
        },
        running: stable.map(|(slot, occupant)| ReleaseView {
            release: occupant.kept.release,
            source: occupant.kept.source,
            slot,
            since: occupant.since,
        }),
        desired: record.desired,
        deployment: deployment.map(|deployment| DeploymentView {
            number: deployment.number,
            release: deployment.to.release,
            source: deployment.to.source,
            phase: deployment.phase,
            since: deployment.since,
            baked_at: deployment.baked_at,
            waits_for: None,
        }),
        held: None,
        restart: None,
        degraded: Vec::new(),
        extra: Extra::default(),
    }
}
