//! An intake: fetch → verify, of all remotes at once; the highest sequence that passes wins. What runs is not touched
//! here.
//!
//! Each look at a remote has a thread of its own and ends by the remote's own deadline, so that a remote which hangs
//! delays no other. What it brings late is taken note of when it comes.

pub(crate) mod contradiction;
pub mod exception;
mod fetch;
pub mod floor;
pub mod keeper;
pub(crate) mod mirror;
mod remote;
pub mod snapshot;
pub mod wanted;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use state::floor::Floor;
use state::name::ServiceName;
use state::verify::HostIdentity;
use state::{Code, Refusal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use self::keeper::Keeper;
use self::mirror::Mirror;
use self::remote::{Common, Source};
use self::wanted::Word;
use crate::blocking::blocking;
use crate::config::{Config, Remote};
use crate::layout::Layout;
use crate::remotes::floor::{Accepted, Durability};
use crate::remotes::snapshot::Believed;
use crate::status::RemoteView;

/// How long the others are waited for after the first remote has passed: good ones answer at about the same time.
const TOGETHER: Duration = Duration::from_millis(250);

/// How long a pass waits for the first remote that passes; the rest is taken note of between passes.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much longer than its deadline a fetch may be waited for: its worker is killed at the deadline, and verification
/// takes its time.
const GRACE: Duration = Duration::from_secs(30);

/// How long to wait for the first remote that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A moment: there will be other passes.
    Moment,
    /// As long as one of them may still pass.
    Deadlines,
}

/// Looks at the remotes, again and again.
#[derive(Debug)]
pub struct Intake {
    common: Arc<Common>,
    seats: Vec<Seat>,
    /// Why no remote is looked at: a newer version wrote what this host has accepted.
    closed: Option<Refusal>,
    sender: UnboundedSender<Answer>,
    answers: UnboundedReceiver<Answer>,
}

/// What is known of one remote.
#[derive(Debug)]
struct Seat {
    remote: Remote,
    mirror: Mirror,
    /// The remote itself, unless it is being looked at.
    source: Option<Source>,
    /// Since when it is being looked at.
    since: Timestamp,
    believed: Option<Arc<Believed>>,
    /// When it passed last.
    passed: Option<Timestamp>,
    /// What came of the last look; none before the first ended.
    last: Option<Result<(), Refusal>>,
    /// Why its `trust` is left alone, if it is.
    passed_over: Option<Refusal>,
}

impl Seat {
    /// The remote, when the one that was here is lost.
    fn anew(&self, keeper: &dyn Keeper) -> Source {
        Source::new(self.remote.clone(), self.mirror.clone(), keeper.worker())
    }
}

/// What came of a look at one remote.
#[derive(Debug)]
struct Answer {
    seat: usize,
    /// The remote; lost in a panic.
    source: Option<Source>,
    result: Result<Arc<Believed>, Refusal>,
}

/// What all remotes together come to.
#[derive(Debug)]
pub struct Outcome {
    /// The best that is believed.
    pub believed: Option<Arc<Believed>>,
    /// Why no remote is believed; or, whoever showed it, a contradiction, or what this version does not know.
    pub refused: Option<Refusal>,
    /// Why the branch `trust` of a remote that passed is left alone, unless another one passed with its own.
    pub passed_over: Option<Refusal>,
    /// Whether any remote passed when it was last looked at.
    pub heard: bool,
}

impl Intake {
    /// Prepares; the floor is read, nothing is fetched. If a newer version wrote the floor, nothing ever is.
    ///
    /// # Errors
    /// `STATE_MISSING`, `STATE_UNSAFE`; `STATE_NEWER` to whoever only looks.
    pub fn new(
        layout: &Layout,
        config: &Config,
        keeper: Arc<dyn Keeper>,
        durability: Durability,
    ) -> Result<Self, Refusal> {
        let floor = layout.floor();
        let (accepted, closed) = match Accepted::load(floor.clone(), durability) {
            Err(refusal) if refusal.code == Code::StateNewer && durability == Durability::Raise => {
                let (environment, host) = (config.environment.clone(), config.host.clone());
                let nothing = Floor::enrolled(config.domain, environment, host);
                (Accepted::nothing(nothing, floor), Some(refusal))
            }
            loaded => (loaded?, None),
        };
        let remotes: &[Remote] = match closed {
            Some(_) => &[],
            None => &config.remotes,
        };
        let mirror_of = |remote: &Remote| match durability {
            Durability::Raise => Mirror::new(layout.mirror(&remote.url)),
            Durability::Look => Mirror::new(layout.plan_mirror(&remote.url)),
        };
        let mirrors: Vec<Mirror> = remotes.iter().map(mirror_of).collect();
        if let (Durability::Raise, Some(first)) = (durability, mirrors.first()) {
            first.inherit(&layout.old_mirror());
            mirror::forget_others(&layout.mirrors(), &mirrors);
        }
        let common = Common {
            identity: HostIdentity {
                environment: config.environment.clone(),
                host: config.host.clone(),
                labels: config.labels.clone(),
            },
            accepted,
            keeper,
            mirrors: mirrors
                .iter()
                .map(|mirror| mirror.path().to_owned())
                .collect(),
            evidence: layout.evidence(),
        };
        let seat = |(remote, mirror): (&Remote, Mirror)| Seat {
            source: Some(Source::new(
                remote.clone(),
                mirror.clone(),
                common.keeper.worker(),
            )),
            remote: remote.clone(),
            mirror,
            since: Timestamp::UNIX_EPOCH,
            believed: None,
            passed: None,
            last: None,
            passed_over: None,
        };
        let seats = remotes.iter().zip(mirrors).map(seat).collect();
        let (sender, answers) = unbounded_channel();
        Ok(Self {
            common: Arc::new(common),
            seats,
            closed,
            sender,
            answers,
        })
    }

    /// What was accepted.
    pub fn floor(&self) -> Floor {
        self.common.accepted.floor()
    }

    /// Verifies again what passed before this process was started, so that the host knows what is wanted while no
    /// remote can be reached.
    pub async fn recall(&mut self, present: &[ServiceName]) {
        for seat in &mut self.seats {
            if !seat.mirror.exists() {
                continue;
            }
            let Some(mut source) = seat.source.take() else {
                continue;
            };
            let (common, present) = (Arc::clone(&self.common), present.to_vec());
            let recalled = blocking(move || {
                let recalled = source.recall(&common, &present);
                Ok((source, recalled))
            });
            let (source, recalled) = match recalled.await {
                Ok(done) => done,
                Err(refusal) => (seat.anew(&*self.common.keeper), Err(refusal)),
            };
            seat.source = Some(source);
            match recalled {
                Ok(believed) => seat.believed = Some(believed),
                Err(refusal) => tracing::info!(url = seat.remote.url, %refusal, "nothing at hand"),
            }
        }
    }

    /// Looks at every remote that is not being looked at already, and waits until all have answered; or, once one has
    /// passed or `patience` has ended, no longer for the others.
    pub async fn look(&mut self, present: &[ServiceName], patience: Patience) {
        for seat in 0..self.seats.len() {
            self.begin(seat, present);
        }
        let mut deadline = Instant::now()
            + match patience {
                Patience::Moment => PATIENCE,
                Patience::Deadlines => self.longest() + GRACE,
            };
        let mut passed = false;
        while self.is_looking() {
            match timeout_at(deadline, self.answers.recv()).await {
                Ok(Some(answer)) => {
                    if self.take(answer) && !passed {
                        passed = true;
                        deadline = deadline.min(Instant::now() + TOGETHER);
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Waits for the next remote that answers late. Nothing is lost if the wait is given up.
    pub async fn late(&mut self) {
        match self.answers.recv().await {
            Some(answer) => {
                self.take(answer);
            }
            // Cannot be: this holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Says whether a remote is being looked at.
    pub fn is_looking(&self) -> bool {
        self.seats.iter().any(|seat| seat.source.is_none())
    }

    fn longest(&self) -> Duration {
        let deadlines = self
            .seats
            .iter()
            .map(|seat| seat.remote.deadline.duration());
        deadlines.max().unwrap_or_default()
    }

    fn begin(&mut self, at: usize, present: &[ServiceName]) {
        let seat = &mut self.seats[at];
        let Some(mut source) = seat.source.take() else {
            return;
        };
        seat.since = Timestamp::now();
        let (common, sender) = (Arc::clone(&self.common), self.sender.clone());
        let present = present.to_vec();
        let look = move || {
            let looked = panic::catch_unwind(AssertUnwindSafe(move || {
                let result = source.look(&common, &present);
                (source, result)
            }));
            let (source, result) = match looked {
                Ok((source, result)) => (Some(source), result),
                Err(_) => {
                    let detail = "the look at the remote ended in a panic: please report this";
                    (None, Err(Refusal::new(Code::FetchFailed, detail)))
                }
            };
            // The intake may be gone: the agent ends.
            let _ = sender.send(Answer {
                seat: at,
                source,
                result,
            });
        };
        if let Err(error) = thread::Builder::new().name("remote".to_owned()).spawn(look) {
            let detail = format!("cannot start a thread: {error}");
            self.take(Answer {
                seat: at,
                source: None,
                result: Err(Refusal::new(Code::FetchFailed, detail)),
            });
        }
    }

    /// Takes note of an answer, and says whether the remote passed.
    fn take(&mut self, answer: Answer) -> bool {
        let seat = &mut self.seats[answer.seat];
        let source = answer.source;
        let passed_over = source
            .as_ref()
            .and_then(|source| source.passed_over().cloned());
        seat.passed_over = passed_over;
        seat.source = Some(source.unwrap_or_else(|| seat.anew(&*self.common.keeper)));
        seat.last = Some(match answer.result {
            Ok(believed) => {
                seat.passed = Some(Timestamp::now());
                seat.believed = Some(believed);
                Ok(())
            }
            Err(refusal) => Err(refusal),
        });
        matches!(seat.last, Some(Ok(())))
    }

    /// The seat whose word counts: the highest sequence, then the freshest, then the one that is listed first.
    fn best(&self) -> Option<usize> {
        let rank = |seat: &Seat| {
            let believed = seat.believed.as_ref();
            believed.map(|believed| (believed.sequence, believed.fresh_until))
        };
        let ranked = self.seats.iter().enumerate();
        let ranked = ranked.filter_map(|(at, seat)| Some((rank(seat)?, at)));
        ranked
            .min_by_key(|(rank, at)| (std::cmp::Reverse(*rank), *at))
            .map(|(_, at)| at)
    }

    /// Says whether a remote has passed since the start, or each has answered.
    pub fn word(&self) -> Word {
        let passed = self.seats.iter().any(|seat| seat.passed.is_some());
        let answered = self.seats.iter().all(|seat| seat.last.is_some());
        if passed || answered && self.closed.is_none() {
            Word::Given
        } else {
            Word::Awaited
        }
    }

    /// What the last looks come to.
    pub fn outcome(&self) -> Outcome {
        let refusals = || {
            let last = self.seats.iter().filter_map(|seat| seat.last.as_ref());
            last.filter_map(|last| last.as_ref().err())
        };
        let mut last = self.seats.iter().filter_map(|seat| seat.last.as_ref());
        let heard = last.any(Result::is_ok);
        let contradiction = refusals().find(|refusal| refusal.code.is_contradiction());
        // That this host is too old for one of them is not hidden by another that lags behind.
        let newer = || refusals().find(|refusal| refusal.code.is_newer());
        let refused = contradiction.or_else(newer);
        let refused = refused.or_else(|| refusals().next().filter(|_| !heard));
        let refused = self.closed.as_ref().or(refused);
        let passed = || {
            self.seats
                .iter()
                .filter(|seat| matches!(seat.last, Some(Ok(()))))
        };
        let all_odd = passed().all(|seat| seat.passed_over.is_some());
        let mut odd = passed().filter_map(|seat| seat.passed_over.clone());
        Outcome {
            passed_over: odd.next().filter(|_| all_odd),
            believed: self.best().and_then(|at| self.seats[at].believed.clone()),
            refused: refused.cloned(),
            heard,
        }
    }

    /// What the status shows of each remote.
    pub fn remotes(&self) -> Vec<RemoteView> {
        let best = self.best();
        let view = |(at, seat): (usize, &Seat)| RemoteView {
            url: seat.remote.url.clone(),
            serves: best == Some(at),
            passed: seat.passed,
            sequence: seat.believed.as_ref().map(|believed| believed.sequence),
            fetching_since: seat.source.is_none().then_some(seat.since),
            refused: match &seat.last {
                Some(Err(refusal)) => Some(refusal.into()),
                _ => seat.passed_over.as_ref().map(Into::into),
            },
        };
        self.seats.iter().enumerate().map(view).collect()
    }
}
