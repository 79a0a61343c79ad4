//! Testing: the steps of the tests, without network.

use tokio::sync::OwnedSemaphorePermit;

use crate::build::{self, Compiled};
use crate::deployment::phase::Event;
use crate::deployment::work::{Carried, Outcome, Work};

impl Work {
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
}
