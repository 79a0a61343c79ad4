//! From a pinned commit to a release in its place: Pending, Building, Testing, Staged.

use std::sync::{Arc, PoisonError};

use state::{Code, Refusal};
use tokio::sync::OwnedSemaphorePermit;

use super::{Carried, Outcome, Work, blocking};
use crate::accounts::Account;
use crate::build::{self, Built, Compiled, Job, Tested, Unbuilt};
use crate::deployment::Event;
use crate::record::Failure;
use crate::sandbox::Sandbox;
use crate::source::{self, Access, Fetched, Limits};

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

    /// Building: waits for its turn, then runs the steps.
    pub(super) async fn build(self, source: &Fetched) -> Outcome {
        let builds = Arc::clone(&self.host.builds);
        if builds.available_permits() == 0 {
            self.waits_for(&format!(
                "another build to end (builds: {} in agent.yaml)",
                self.host.config.builds
            ));
        }
        let turn = builds.acquire_owned().await;
        self.waits.send_replace(None);
        let permit = turn.map_err(|_| self.failure(Refusal::new(Code::Interrupted, "stopping")))?;
        self.say("building");
        let job = Job {
            service: self.layout(),
            id: self.deployment.to.release,
            number: self.deployment.to.number,
            spec: self.to.spec.clone(),
        };
        let progress = |line: &str| self.host.progress.line(&self.to.service, "building", line);
        let sandbox = self.sandbox().map_err(|refusal| self.failure(refusal))?;
        build::build(job, source, &Limits::default(), &sandbox, &progress)
            .await
            .map(|compiled| (Event::Built, Carried::Compiled(compiled, permit)))
            .map_err(|unbuilt| self.unbuilt(unbuilt))
    }

    /// Testing.
    pub(super) async fn test(self, compiled: Compiled, permit: OwnedSemaphorePermit) -> Outcome {
        self.say("testing");
        let progress = |line: &str| self.host.progress.line(&self.to.service, "testing", line);
        let sandbox = self.sandbox().map_err(|refusal| self.failure(refusal))?;
        build::test(compiled, &sandbox, &progress)
            .await
            .map(|tested| (Event::Tested, Carried::Tested(tested, permit)))
            .map_err(|unbuilt| self.unbuilt(unbuilt))
    }

    /// Staged: the release moves into its place.
    pub(super) async fn stage(self, tested: Tested, permit: OwnedSemaphorePermit) -> Outcome {
        let release = self.to.to_yaml().into_bytes();
        let host = Arc::clone(&self.host);
        let staged = blocking(move || build::stage(tested, &host.sandbox, &release)).await;
        drop(permit);
        staged
            .map(|_| (Event::Stored, Carried::Nothing))
            .map_err(|refusal| self.failure(refusal))
    }

    /// The sandbox for builds of this service, which run as an account of their own.
    fn sandbox(&self) -> Result<Sandbox, Refusal> {
        let account = self.host.accounts.of(&self.to.service)?;
        Ok(self.host.sandbox.as_user(account.map(Account::build)))
    }

    fn unbuilt(&self, unbuilt: Unbuilt) -> Failure {
        Failure {
            log: unbuilt.log,
            ..self.failure(unbuilt.refusal)
        }
    }
}
