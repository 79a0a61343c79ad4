//! Pending: the pinned source commit.

use std::sync::{Arc, PoisonError};

use crate::blocking::blocking;
use crate::build::Built;
use crate::deployment::phase::Event;
use crate::deployment::work::{Carried, Outcome, Work};
use crate::source::{self, Access, Limits};

impl Work {
    /// Pending: the source commit, unless the release is here already.
    pub(super) async fn fetch(self) -> Outcome {
        let kept = &self.deployment.to;
        let layout = self.layout();
        if Built::open(&layout, &kept.release, kept.number).is_some() {
            return Ok((Event::Kept, Carried::Nothing));
        }
        self.say("fetching the source");
        let (host, to) = (Arc::clone(&self.host), Arc::clone(&self.to));
        let fetched = blocking(move || {
            let source = &to.spec.source;
            let mirror = host.layout.source(&source.repository);
            let access = host.config.source(&source.repository);
            let access = access.map_or_else(Access::default, |access| Access {
                token: access.token.clone(),
                ca: access.ca.clone(),
            });
            let lock = host.mirror_lock(&mirror);
            let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
            let limits = Limits::default();
            host.with_worker(|worker| source::fetch(&mirror, source, &access, &limits, worker))
        });
        let fetched = fetched.await.map_err(|refusal| self.failure(refusal))?;
        Ok((Event::Fetched, Carried::Source(fetched)))
    }
}
