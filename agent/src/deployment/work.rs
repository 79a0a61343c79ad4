//! One phase of one deployment under way: what its effect needs, and what it hands to the next.

use std::sync::Arc;

use state::Refusal;
use state::release::Release;
use state::verify::Verified;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::build::{Compiled, Tested};
use crate::deployment::launch::{Ready, Started};
use crate::deployment::phase::Event;
use crate::deployment::record::{Deployment, Failure, Record};
use crate::host::Host;
use crate::layout::ServiceLayout;
use crate::probe::Unwell;
use crate::source::Fetched;

/// How many lines of a slot's log are kept with a failure.
const LOG_LINES: usize = 50;

/// What one phase hands to the next within one process. A crash loses it, and the phases are begun again without.
#[derive(Debug, Default)]
pub(crate) enum Carried {
    /// Nothing.
    #[default]
    Nothing,
    /// From Pending to Building.
    Source(Fetched),
    /// From Building to Testing.
    Compiled(Compiled, OwnedSemaphorePermit),
    /// From Testing to Staged.
    Tested(Tested, OwnedSemaphorePermit),
    /// From Starting to Ready.
    Started(Started),
    /// From Ready to Shifting: the permission to give a slot requests.
    Ready(Ready),
}

/// One phase of one deployment, with all that its effect needs.
pub(crate) struct Work {
    pub(crate) host: Arc<Host>,
    pub(crate) record: Record,
    pub(crate) deployment: Deployment,
    pub(crate) to: Arc<Verified<Release>>,
    /// What has, or had, the requests, if its file could be read.
    pub(crate) from: Option<Arc<Verified<Release>>>,
    pub(crate) carried: Carried,
    /// Is told what the phase waits for, while it does.
    pub(crate) waits: watch::Sender<Option<String>>,
}

/// What came of an effect.
pub(crate) type Outcome = Result<(Event, Carried), Failure>;

impl Work {
    pub(super) fn layout(&self) -> ServiceLayout {
        self.host.service(&self.to.service)
    }

    pub(super) fn say(&self, what: &str) {
        self.host.progress.say(&self.to.service, what);
    }

    /// Waits for something that another deployment has.
    pub(super) fn waits_for(&self, what: &str) {
        self.say(&format!("waiting for {what}"));
        self.waits.send_replace(Some(what.to_owned()));
    }

    pub(super) fn failure(&self, refusal: Refusal) -> Failure {
        let phase = self.deployment.phase;
        let log = if phase.needs_processes() {
            let slot = self.deployment.slot;
            self.host
                .runner
                .last_lines(&self.to.service, slot, LOG_LINES)
        } else {
            Vec::new()
        };
        Failure {
            log,
            ..Failure::new(refusal, phase)
        }
    }

    /// What it was asked last, and answered, is kept with a failure.
    pub(super) fn unwell(&self, unwell: Unwell) -> Failure {
        let mut failure = self.failure(unwell.refusal);
        failure.probe = unwell.answer.map(|answer| {
            format!(
                "{} → {} ({} ms)",
                answer.request, answer.answer, answer.milliseconds
            )
        });
        failure
    }
}
