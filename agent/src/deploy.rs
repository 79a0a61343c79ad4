//! The effect of each phase of a deployment. Doing one twice is harmless: names are deterministic, and what is done
//! already is found so. Which phase is next is not decided here, see [`crate::deployment`].

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use state::release::Release;
use state::service::{Strategy, Traffic};
use state::verify::Verified;
use state::{Code, Refusal};
use tokio::sync::OwnedSemaphorePermit;

use crate::build::{self, Built, Compiled, Job, Tested, Unbuilt};
use crate::check::Unwell;
use crate::deployment::{Event, Phase};
use crate::host::Host;
use crate::layout::ServiceLayout;
use crate::observe::{self, Watched};
use crate::record::{Deployment, Failure, Record};
use crate::route::RouteTable;
use crate::runner::{Restart, SlotStatus};
use crate::slot::Role;
use crate::source::{self, Access, Fetched, Limits};
use crate::start::{self, Ready, Started};
use crate::{retire, shift};

/// How many lines of a slot's log are kept with a failure.
const LOG_LINES: usize = 50;

/// The longest wait between two tries of an effect that must succeed.
const RETRY: Duration = Duration::from_secs(30);

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
}

/// What came of an effect.
pub(crate) type Outcome = Result<(Event, Carried), Failure>;

/// Brings the effect of the deployment's phase about.
pub(crate) async fn effect(mut work: Work) -> Outcome {
    let carried = std::mem::take(&mut work.carried);
    match (work.deployment.phase, carried) {
        (Phase::Pending, _) => work.fetch().await,
        (Phase::Building, Carried::Source(source)) => work.build(&source).await,
        (Phase::Testing, Carried::Compiled(compiled, permit)) => work.test(compiled, permit).await,
        (Phase::Staged, Carried::Tested(tested, permit)) => work.stage(tested, permit).await,
        (Phase::Starting, _) => work.start().await,
        (Phase::Ready, Carried::Started(started)) => work.wait_ready(started).await,
        (Phase::Ready, _) => {
            let started = work.started().await?;
            work.wait_ready(started).await
        }
        (Phase::Shifting, Carried::Ready(ready)) => work.shift(&ready).await,
        (Phase::Shifting, _) => {
            let ready = work.ready_again().await?;
            work.shift(&ready).await
        }
        (Phase::Promoted, _) => work.flip().await,
        (Phase::Baking, _) => work.bake().await,
        (Phase::Committed, _) => Ok(work.commit()),
        (Phase::Draining, _) => Ok(work.persist(Work::drain).await),
        (Phase::Aborting, _) => Ok(work.persist(Work::restore).await),
        (Phase::Building | Phase::Testing | Phase::Staged, _) => {
            Err(work.failure(Refusal::new(Code::Interrupted, "what was built is lost")))
        }
        (Phase::Retired | Phase::RolledBack | Phase::Failed, _) => {
            Err(work.failure(Refusal::new(Code::Interrupted, "the deployment has ended")))
        }
    }
}

impl Work {
    fn layout(&self) -> ServiceLayout {
        self.host.service(&self.to.service)
    }

    fn say(&self, what: &str) {
        self.host.progress.say(&self.to.service, what);
    }

    /// Pending: the source commit, unless the release is here already.
    async fn fetch(self) -> Outcome {
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
            let _alone = lock
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            source::fetch(
                &mirror,
                source,
                &access,
                &Limits::default(),
                &mut host.worker(),
            )
        });
        let fetched = fetched.await.map_err(|refusal| self.failure(refusal))?;
        Ok((Event::Fetched, Carried::Source(fetched)))
    }

    /// Building: waits for its turn, then runs the steps.
    async fn build(self, source: &Fetched) -> Outcome {
        self.say("waiting for another build to end");
        let turn = Arc::clone(&self.host.builds).acquire_owned().await;
        let permit = turn.map_err(|_| self.failure(Refusal::new(Code::Interrupted, "stopping")))?;
        self.say("building");
        let job = Job {
            service: self.layout(),
            id: self.deployment.to.release,
            number: self.deployment.to.number,
            spec: self.to.spec.clone(),
        };
        let progress = |line: &str| self.host.progress.line(&self.to.service, "building", line);
        let sandbox = &self.host.sandbox;
        build::build(job, source, &Limits::default(), sandbox, &progress)
            .await
            .map(|compiled| (Event::Built, Carried::Compiled(compiled, permit)))
            .map_err(|unbuilt| self.unbuilt(unbuilt))
    }

    /// Testing.
    async fn test(self, compiled: Compiled, permit: OwnedSemaphorePermit) -> Outcome {
        self.say("testing");
        let progress = |line: &str| self.host.progress.line(&self.to.service, "testing", line);
        build::test(compiled, &self.host.sandbox, &progress)
            .await
            .map(|tested| (Event::Tested, Carried::Tested(tested, permit)))
            .map_err(|unbuilt| self.unbuilt(unbuilt))
    }

    /// Staged: the release moves into its place.
    async fn stage(self, tested: Tested, permit: OwnedSemaphorePermit) -> Outcome {
        let release = self.to.to_yaml().into_bytes();
        let staged = blocking(move || build::stage(tested, &release)).await;
        drop(permit);
        staged
            .map(|_| (Event::Stored, Carried::Nothing))
            .map_err(|refusal| self.failure(refusal))
    }

    /// Starting: claims the listen address, with recreate stops the old slot, and starts the new one.
    async fn start(self) -> Outcome {
        self.say("starting");
        self.claim_address()
            .await
            .map_err(|refusal| self.failure(refusal))?;
        if matches!(self.to.spec.strategy(), Strategy::Recreate(_)) {
            self.drain()
                .await
                .map_err(|refusal| self.failure(refusal))?;
        }
        let started = self.started().await?;
        Ok((Event::Started, Carried::Started(started)))
    }

    /// Binds the address that clients will use, before anything is touched: at once for a new service, as a try where
    /// the old release still has another one.
    async fn claim_address(&self) -> Result<(), Refusal> {
        let Some(traffic) = &self.to.spec.traffic else {
            return Ok(());
        };
        let from = self
            .from
            .as_ref()
            .and_then(|from| from.spec.traffic.as_ref());
        match from {
            Some(from) if from.listen != traffic.listen => {
                TcpListener::bind(traffic.listen)
                    .map(drop)
                    .map_err(|error| {
                        let detail = format!("{}: {error}", traffic.listen);
                        Refusal::new(Code::ListenInUse, detail)
                    })?;
                self.host.apply(&self.table(from)).await
            }
            _ => self.host.apply(&self.table(traffic)).await,
        }
    }

    async fn started(&self) -> Result<Started, Failure> {
        let slot = self.deployment.slot;
        let occupant = self.record.slots.get(&slot).ok_or_else(|| {
            self.failure(Refusal::new(
                Code::StartFailed,
                "the slot was given to nobody",
            ))
        })?;
        start::start(&self.host, &self.to, slot, occupant, Restart::Never)
            .await
            .map_err(|refusal| self.failure(refusal))
    }

    /// Ready: startup, identity, readiness.
    async fn wait_ready(self, started: Started) -> Outcome {
        self.say("waiting until it is ready");
        let slot = self.deployment.slot;
        let ready = start::wait_ready(&self.host, &self.to, slot, started)
            .await
            .map_err(|unwell| self.unwell(unwell))?;
        let event = match self.to.spec.strategy() {
            Strategy::BlueGreen(_) => Event::Answered,
            Strategy::Recreate(_) => Event::AnsweredAlone,
        };
        Ok((event, Carried::Ready(ready)))
    }

    /// After a crash while shifting: the slot is asked anew before it gets requests.
    async fn ready_again(&self) -> Result<Ready, Failure> {
        let started = self.started().await?;
        start::wait_ready(&self.host, &self.to, self.deployment.slot, started)
            .await
            .map_err(|unwell| self.unwell(unwell))
    }

    /// Shifting: requests go to the candidate. Only a slot that was ready is given any.
    async fn shift(self, _ready: &Ready) -> Outcome {
        self.say("shifting requests");
        self.serve()
            .await
            .map(|()| (Event::Shifted, Carried::Nothing))
            .map_err(|refusal| self.failure(refusal))
    }

    /// Promoted: the proxy learns the new roles.
    async fn flip(self) -> Outcome {
        self.serve()
            .await
            .map(|()| (Event::Flipped, Carried::Nothing))
            .map_err(|refusal| self.failure(refusal))
    }

    /// Baking: the slot must stay well until the time is over.
    async fn bake(self) -> Outcome {
        self.serve()
            .await
            .map_err(|refusal| self.failure(refusal))?;
        let (slot, to) = (self.deployment.slot, &self.to);
        let Some(occupant) = self.record.slots.get(&slot) else {
            let refusal = Refusal::new(Code::ProcessExited, "nothing runs in the slot");
            return Err(self.failure(refusal));
        };
        let watched = Watched {
            service: to.service.clone(),
            slot,
            probes: to.spec.health.clone(),
            target: start::target(&self.host, to, slot, occupant),
        };
        let end = self.deployment.baked_at.unwrap_or_else(Timestamp::now);
        let left = end.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        self.say(&format!("baking for {}s", left.as_secs()));
        match tokio::time::timeout(left, observe::bake(&self.host, &watched)).await {
            Err(_) => Ok((Event::Baked, Carried::Nothing)),
            Ok(unwell) => Err(self.unwell(unwell)),
        }
    }

    /// Committed: from now on the slot is started again when it ends.
    fn commit(self) -> (Event, Carried) {
        let slot = self.deployment.slot;
        let service = &self.to.service;
        if let Err(refusal) = self.host.runner.set_restart(service, slot, Restart::Always) {
            tracing::warn!(%service, %slot, %refusal, "the slot is not started again by itself");
        }
        (Event::Remembered, Carried::Nothing)
    }

    /// Draining: the old slot ends its requests and stops.
    async fn drain(&self) -> Result<Event, Refusal> {
        let service = &self.to.service;
        if let Some((slot, occupant)) = self.record.with_role(Role::Draining) {
            self.say("draining the old slot");
            let drain = self.traffic().map(|traffic| traffic.drain.duration());
            retire::drain_and_stop(&self.host, service, slot, occupant, drain).await?;
        }
        Ok(Event::Drained)
    }

    /// Aborting: first the requests go back, then the candidate stops, then the stable slot is made sure of.
    async fn restore(&self) -> Result<Event, Refusal> {
        self.say("going back");
        match self.serve().await {
            // Nothing had requests, and somebody else holds the address: there is nothing to bring back.
            Err(refusal) if refusal.code == Code::ListenInUse && self.record.stable().is_none() => {
            }
            served => served?,
        }
        let (host, service) = (&self.host, &self.to.service);
        if let Some((slot, occupant)) = self.record.with_role(Role::Candidate) {
            retire::stop(host, service, slot, occupant).await?;
        }
        let Some((slot, occupant)) = self.record.stable() else {
            return Ok(Event::Emptied);
        };
        let running = host.runner.status(service, slot);
        if let (Some(from), false) = (&self.from, matches!(running, SlotStatus::Running { .. })) {
            let started = start::start(host, from, slot, occupant, Restart::Always).await?;
            if let Err(unwell) = start::wait_ready(host, from, slot, started).await {
                // It is what ran before, and there is nothing else to go back to.
                tracing::warn!(%service, refusal = %unwell.refusal, "the old release is not ready");
            }
        }
        Ok(Event::Restored)
    }

    /// Tries an effect again until it succeeds: there is nothing to fall back to.
    async fn persist<'a, F>(&'a self, effect: impl Fn(&'a Self) -> F) -> (Event, Carried)
    where
        F: Future<Output = Result<Event, Refusal>> + 'a,
    {
        let mut wait = Duration::from_millis(500);
        loop {
            match effect(self).await {
                Ok(event) => return (event, Carried::Nothing),
                Err(refusal) => {
                    let (service, phase) = (&self.to.service, self.deployment.phase);
                    tracing::warn!(%service, %phase, %refusal, "tried again in {wait:?}");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY);
        }
    }

    /// Has the proxy serve what the record calls for.
    async fn serve(&self) -> Result<(), Refusal> {
        match self.traffic() {
            Some(traffic) => self.host.apply(&self.table(traffic)).await,
            None => Ok(()),
        }
    }

    /// The traffic of the release that has the requests in this phase.
    fn traffic(&self) -> Option<&Traffic> {
        let to = self.to.spec.traffic.as_ref();
        let from = self
            .from
            .as_ref()
            .and_then(|from| from.spec.traffic.as_ref());
        match self.deployment.phase {
            Phase::Aborting => from.or(to),
            _ => to.or(from),
        }
    }

    fn table(&self, traffic: &Traffic) -> RouteTable {
        shift::table(&self.record, traffic)
    }

    fn unwell(&self, unwell: Unwell) -> Failure {
        let mut failure = self.failure(unwell.refusal);
        failure.probe = unwell.answer.map(|answer| {
            format!(
                "{} → {} ({} ms)",
                answer.request, answer.answer, answer.milliseconds
            )
        });
        failure
    }

    fn failure(&self, refusal: Refusal) -> Failure {
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
            refusal,
            phase,
            probe: None,
            log,
        }
    }

    fn unbuilt(&self, unbuilt: Unbuilt) -> Failure {
        Failure {
            log: unbuilt.log,
            ..self.failure(unbuilt.refusal)
        }
    }
}

/// Runs what blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Refusal::new(Code::Interrupted, error.to_string())))
}
