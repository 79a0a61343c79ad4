//! What an operator of this host decides about a service.

use jiff::Timestamp;
use state::durable::Extra;
use state::{Code, Refusal};

use super::ServiceTask;
use super::ask::Ask;
use crate::deployment::record::{Kept, ManualHold};
use crate::journal::Kind;
use crate::releases;
use crate::service::plan::Action;

impl ServiceTask {
    /// Writes a decision down and says what follows from it.
    pub(super) fn decide(&mut self, ask: &Ask) -> Result<String, Refusal> {
        let now = Timestamp::now();
        let answer = match ask {
            Ask::Hold {} => {
                self.guard.update(|record| {
                    record.manual = Some(ManualHold::Frozen {
                        since: now,
                        extra: Extra::default(),
                    });
                    Ok(())
                })?;
                "held: what runs stays until `agent resume`".to_owned()
            }
            Ask::Resume {} => self.guard.update(|record| {
                Ok(match record.manual.take() {
                    Some(_) => "resumed: what was admitted is deployed".to_owned(),
                    None => "nothing was held by hand".to_owned(),
                })
            })?,
            Ask::Retry {} => self.retry()?,
            Ask::Rollback { to } => self.roll_back(to.as_deref(), now)?,
        };
        self.note(Kind::Hold, &format!("operator: {answer}"), Vec::new());
        Ok(answer)
    }

    /// What failed here, or waits for this host, waits no more: not for a limit either.
    fn retry(&mut self) -> Result<String, Refusal> {
        let waits = matches!(self.plan(Timestamp::now()), Action::Waiting { .. });
        self.guard.update(|record| {
            let failed = record.failed.take().map(|hold| hold.release);
            let postponed = record.postponed.take().map(|postponed| postponed.release);
            let limited = record.desired.filter(|_| waits);
            record.begun.clear();
            Ok(match failed.or(postponed).or(limited) {
                Some(release) => format!("release {} is tried again", release.short()),
                None => "no release waits to be tried again".to_owned(),
            })
        })
    }

    fn roll_back(&mut self, to: Option<&str>, now: Timestamp) -> Result<String, Refusal> {
        let target = self.rollback_target(to)?;
        // Changed, or never verified here: refused before anything is decided.
        self.host.recall(&self.guard.get().service, &target)?;
        let from = self.guard.get().desired.ok_or_else(|| {
            Refusal::new(Code::NoTarget, "no release was admitted for this host yet")
        })?;
        let release = target.release;
        self.guard.update(|record| {
            record.failed.take_if(|hold| hold.release == release);
            record.manual = Some(ManualHold::RolledBack {
                since: now,
                from,
                to: target,
                extra: Extra::default(),
            });
            Ok(())
        })?;
        Ok(format!(
            "going back to release {}; release {} is held until another is admitted or `agent resume`",
            release.short(),
            from.short()
        ))
    }

    fn rollback_target(&self, to: Option<&str>) -> Result<Kept, Refusal> {
        let record = self.guard.get();
        let running = record.stable().map(|(_, occupant)| occupant.kept.release);
        let Some(prefix) = to else {
            let good = record.last_good.iter().chain(&record.previous_good);
            let mut others = good.filter(|kept| Some(kept.release) != running);
            return others.next().cloned().ok_or_else(|| {
                Refusal::new(
                    Code::NoTarget,
                    "no other release was live and passed its bake",
                )
            });
        };
        let kept = releases::releases(&self.layout).into_iter().rev();
        let mut found =
            kept.filter(|(id, _)| id.starts_with(prefix) || prefix.starts_with(id.as_str()));
        let (id, number) = found.next().ok_or_else(|| {
            Refusal::new(Code::NoTarget, format!("no release '{prefix}' is kept"))
        })?;
        if let Some((other, _)) = found.find(|(other, _)| *other != id) {
            let detail = format!("'{prefix}' may be {id} or {other}");
            return Err(Refusal::new(Code::NoTarget, detail));
        }
        let file = self
            .layout
            .releases()
            .join(format!("{id}-{number}/release.yaml"));
        let release = self.host.recall_file(&record.service, &file)?;
        if prefix.len() > 12 && !release.id().to_string().starts_with(prefix) {
            let detail = format!("no release '{prefix}' is kept");
            return Err(Refusal::new(Code::NoTarget, detail));
        }
        Ok(Kept {
            release: release.id(),
            source: release.spec.source.commit,
            number,
            extra: Extra::default(),
        })
    }
}
