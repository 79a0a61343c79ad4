//! Building: the steps of the build, confined. Staged: the release moves into its place.

use std::sync::Arc;

use state::{Code, Refusal};
use tokio::sync::OwnedSemaphorePermit;

use crate::blocking::blocking;
use crate::build::{self, Job, Tested, Unbuilt};
use crate::deployment::phase::Event;
use crate::deployment::record::Failure;
use crate::deployment::work::{Carried, Outcome, Work};
use crate::sandbox::Sandbox;
use crate::source::{Fetched, Limits};
use crate::user::Account;

impl Work {
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
    pub(super) fn sandbox(&self) -> Result<Sandbox, Refusal> {
        let account = self.host.accounts.of(&self.to.service)?;
        Ok(self.host.sandbox.as_user(account.map(Account::build)))
    }

    pub(super) fn unbuilt(&self, unbuilt: Unbuilt) -> Failure {
        Failure {
            log: unbuilt.log,
            ..self.failure(unbuilt.refusal)
        }
    }
}
