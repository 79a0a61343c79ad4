//! After its start an agent knows what was wanted when it was last running. What was held or replaced meanwhile it
//! learns from the remotes, so nothing new begins, and no requests move to a new release, before they were asked once.
//!
//! They may be out of reach. What ran before is recovered by then: that waits for nobody. A deployment that was cut
//! short then goes on if what was accepted before still counts as the newest, which is the same bound as for an agent
//! that cannot reach them between two passes; else it is broken off, and tried again with the next fresh word. So a
//! host that is offline neither waits for ever nor starts what nobody can vouch for.

use jiff::{SignedDuration, Timestamp};
use state::Refusal;
use tokio::time::Instant;

use super::ServiceTask;
use super::patience::Patience;
use crate::deployment::record::Failure;
use crate::service::plan::{self, Action};

impl ServiceTask {
    /// Until when `action` waits for the first word, if it does.
    pub(super) fn awaits_word(&self, action: &Action) -> Option<Timestamp> {
        let Patience::Until(end) = self.patience else {
            return None;
        };
        let left = end.saturating_duration_since(Instant::now());
        let left = SignedDuration::try_from(left).unwrap_or_default();
        action
            .needs_word(self.guard.get())
            .then(|| Timestamp::now() + left)
    }

    /// Waits no longer: goes on with what is known to be wanted, and breaks off what nobody asks for.
    pub(super) fn go_by_what_is_known(&mut self) -> Result<(), Refusal> {
        if matches!(self.patience, Patience::Ended) {
            return Ok(());
        }
        let record = self.guard.get();
        if let Some(reason) = plan::reason_to_give_up(self.wish, record)
            && let Some(phase) = record.active().map(|deployment| deployment.phase)
        {
            self.break_off(Failure::new(reason, phase))?;
        }
        self.patience = Patience::Ended;
        Ok(())
    }
}
