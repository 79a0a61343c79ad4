//! One service on this host, on its own: takes orders, decides by [`crate::service::plan`], deploys phase by phase, and
//! keeps an eye on what runs. A service that fails, builds for an hour or hangs delays no other.
//!
//! Every step is: the record announces it (fsynced), the effect, what came of it, the record again.

pub(crate) mod adopt;
pub mod ask;
mod patience;
pub mod plan;

mod deploying;
mod first_word;
mod inbox;
mod leave;
mod operator;
mod recover;
mod restart;
pub mod standstill;
mod supervise;
mod view;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use state::Refusal;
use state::release::Release;
use state::verify::Verified;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::plan::{Action, Wish};
use crate::deployment::phase::Phase;
use crate::deployment::record::{Failure, Guard};
use crate::deployment::work::Carried;
use crate::host::Host;
use crate::journal::{Entry, Kind};
use crate::layout::ServiceLayout;
use crate::status::Health;

pub use self::ask::Ask;
use self::patience::Patience;
use crate::remotes::wanted::{Wanted, Word};

/// The wait before a record that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What a service is told.
#[derive(Debug)]
pub enum Message {
    /// By an intake.
    Order(Order),
    /// By an operator, who waits for the answer.
    Ask(Ask, oneshot::Sender<Result<String, Refusal>>),
}

/// What an intake wants of a service.
#[derive(Clone, Debug)]
pub struct Order {
    /// Counts the intakes.
    pub serial: u64,
    /// What is wanted.
    pub wanted: Wanted,
    /// Whether the remotes had their say.
    pub word: Word,
}

/// One service on this host.
#[derive(Debug)]
pub struct ServiceTask {
    host: Arc<Host>,
    layout: ServiceLayout,
    guard: Guard,
    inbox: mpsc::Receiver<Message>,
    settled: watch::Sender<u64>,
    serial: u64,
    wish: Option<Wish>,
    /// How long the remotes are waited for after the start.
    patience: Patience,
    /// What the phase under way waits for, if it does.
    waits_for: Option<String>,
    /// The release that is wanted, or was when the agent was last running.
    desired: Option<Arc<Verified<Release>>>,
    refused: Option<Refusal>,
    carried: Carried,
    health: Health,
    restarts: u32,
    /// When the stable slot is started again, if it waits for that.
    due: Option<Due>,
    /// Why the stable slot could not be started again when that was tried last.
    unstarted: Option<Unstarted>,
}

/// Whether a deployment counts for this host's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// It brings what was admitted.
    Yes,
    /// It goes back.
    No,
}

/// A stable slot that waits to be started again.
#[derive(Debug)]
pub(super) struct Due {
    /// What is in it.
    attempt: String,
    at: Instant,
}

/// Why what is stable does not run.
#[derive(Debug)]
pub(super) struct Unstarted {
    attempt: String,
    refusal: Refusal,
}

/// How the others reach a service's task.
#[derive(Debug)]
pub struct Handle {
    /// Takes messages.
    pub inbox: mpsc::Sender<Message>,
    /// The serial of the last order after which nothing was left to do.
    pub settled: watch::Receiver<u64>,
    /// Ends when the service has left the host.
    pub task: tokio::task::JoinHandle<()>,
}

impl ServiceTask {
    /// Takes the service up where its record says, and goes on with it.
    pub fn spawn(host: Arc<Host>, guard: Guard) -> Handle {
        let (sender, inbox) = mpsc::channel(16);
        let (settled, receiver) = watch::channel(0);
        let layout = host.service(&guard.get().service);
        let task = Self {
            host,
            layout,
            guard,
            inbox,
            settled,
            serial: 0,
            wish: None,
            patience: Patience::begin(),
            waits_for: None,
            desired: None,
            refused: None,
            carried: Carried::Nothing,
            health: Health::Unknown,
            restarts: 0,
            due: None,
            unstarted: None,
        };
        Handle {
            inbox: sender,
            settled: receiver,
            task: tokio::spawn(task.run()),
        }
    }

    async fn run(mut self) {
        let mut result = self.recover().await;
        loop {
            if let Err(refusal) = result {
                // The record could not be written: what runs is left alone until it can.
                self.note(Kind::Failure, &refusal.to_string(), Vec::new());
                let heard = self.attend(tokio::time::sleep(RETRY)).await;
                if heard.is_err() {
                    tracing::warn!(service = %self.guard.get().service, "what was decided cannot be written");
                }
            }
            match self.turn().await {
                Ok(Turn::Again) => result = Ok(()),
                Ok(Turn::End) => return,
                Err(refusal) => result = Err(refusal),
            }
        }
    }

    /// What is to be done.
    fn plan(&self, now: Timestamp) -> Action {
        let limits = &self.host.config.limits;
        plan::decide(self.wish, self.guard.get(), limits, now)
    }

    /// Decides, and does one thing.
    async fn turn(&mut self) -> Result<Turn, Refusal> {
        if self.patience.is_over() {
            self.go_by_what_is_known()?;
        }
        let now = Timestamp::now();
        let action = self.plan(now);
        let awaits = self.awaits_word(&action);
        self.waits_for = awaits.map(patience::awaited);
        self.show();
        if awaits.is_some() {
            return self.idle(awaits).await;
        }
        match action {
            Action::Deploy { to, .. } => self.begin_admitted(to).await,
            Action::Return { to, .. } => self.begin(to, Counts::No),
            Action::Abort(reason) => {
                let phase = self
                    .guard
                    .get()
                    .active()
                    .map_or(Phase::Pending, |d| d.phase);
                self.break_off(Failure::new(reason, phase))
            }
            Action::Continue => return self.step().await,
            Action::Stop => self.stop_all().await,
            Action::Remove => return self.remove().await.map(|()| Turn::End),
            Action::Keep | Action::Held(_) => return self.idle(None).await,
            Action::Waiting { until, .. } => return self.idle(Some(until)).await,
        }?;
        Ok(Turn::Again)
    }

    /// Tells journal, log and terminal which phase was reached.
    fn tell(&self, phase: Phase) {
        let record = self.guard.get();
        let to = record.deployment.as_ref().map(|d| d.to.release.short());
        let to = to.unwrap_or_default();
        let text = match phase {
            Phase::Retired => format!("done: release {to} is live"),
            Phase::RolledBack => format!("rolled back: release {to} does not run"),
            Phase::Failed => format!("failed: release {to} does not run"),
            phase => phase.to_string(),
        };
        self.note(Kind::Phase, &text, Vec::new());
        if !phase.is_terminal() {
            return;
        }
        self.host.progress.done(&record.service, &text);
        if let Some(hold) = &record.failed
            && phase != Phase::Retired
        {
            let (release, why) = (hold.release.short(), &hold.failure.refusal);
            self.note(
                Kind::Hold,
                &format!("release {release} is held: {why}"),
                Vec::new(),
            );
        }
    }

    fn note(&self, kind: Kind, text: &str, evidence: Vec<String>) {
        let record = self.guard.get();
        let service = &record.service;
        tracing::info!(%service, "{}", state::text::Escaped(text));
        self.host.journal.append(&Entry {
            service: Some(service.clone()),
            deployment: record
                .deployment
                .as_ref()
                .map(|deployment| deployment.number),
            evidence,
            ..Entry::new(kind, text)
        });
    }
}

/// Whether a task goes on.
enum Turn {
    Again,
    End,
}
