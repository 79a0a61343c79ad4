//! One remote: its mirror, its worker, and what it showed last. A look at it blocks, in a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use state::Refusal;
use state::digest::ObjectId;
use state::git::Git;
use state::git::fetch::Fetched;
use state::git::worker::Worker;
use state::name::ServiceName;
use state::verify::{HostIdentity, Stage, Tips};

use super::keeper::Keeper;
use crate::config::Remote;
use crate::remotes::contradiction::Case;
use crate::remotes::fetch;
use crate::remotes::floor::Accepted;
use crate::remotes::mirror::Mirror;
use crate::remotes::snapshot::{Believed, Verifier};

/// What all remotes share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) identity: HostIdentity,
    pub(super) accepted: Accepted,
    pub(super) keeper: Arc<dyn Keeper>,
    /// The mirrors of all remotes.
    pub(super) mirrors: Vec<PathBuf>,
    /// Where contradictions are kept.
    pub(super) evidence: PathBuf,
}

/// One remote.
#[derive(Debug)]
pub(super) struct Source {
    remote: Remote,
    mirror: Mirror,
    worker: Worker,
    believed: Option<Arc<Believed>>,
    /// Whether the mirror was looked through for damage since the remote last passed.
    examined: bool,
    /// Why the remote's `trust` is left alone, if it is.
    passed_over: Option<PassedOver>,
    /// Where `trust` pointed when it was fetched last.
    shown: Option<ObjectId>,
}

/// A `trust` of a remote that does not count.
#[derive(Debug)]
struct PassedOver {
    refusal: Refusal,
    /// When it could not even be fetched.
    failed: Option<Instant>,
}

/// By which trust files a remote is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Those that it shows.
    Shown,
    /// Those that were verified here before.
    Verified,
}

/// How long a `trust` that could not be fetched is left alone before that is tried again: it may be large.
const TRUST_AGAIN: Duration = Duration::from_secs(300);

/// Says that the host goes on, and what is to be done.
fn left_alone(mut refusal: Refusal) -> Refusal {
    refusal.detail += "; the branch 'trust' of this remote is left alone, and the host goes on with the trust file that \
                       it has verified: root holders set the branch back, by the commands that `policy admit` prints";
    refusal
}

impl Source {
    pub(super) fn new(remote: Remote, mirror: Mirror, worker: Worker) -> Self {
        Self {
            remote,
            mirror,
            worker,
            believed: None,
            examined: false,
            passed_over: None,
            shown: None,
        }
    }

    /// Fetch → verify. A mirror that turns out to be damaged is moved aside, and all is fetched anew.
    ///
    /// # Errors
    /// Why this remote is not believed.
    pub(super) fn look(
        &mut self,
        common: &Common,
        present: &[ServiceName],
    ) -> Result<Arc<Believed>, Refusal> {
        let mut looked = self.try_look(common, present);
        if let Err(refusal) = &looked
            && let Some(damage) = self.damage(refusal, common)
        {
            let aside = self.mirror.move_aside()?;
            let (url, aside) = (&self.remote.url, aside.display());
            common.keeper.note_damage(&format!(
                "the mirror of '{url}' was damaged, and is fetched anew: {damage}; it lies in '{aside}' now"
            ));
            let before = self.believed.take();
            looked = self.try_look(common, present);
            self.believed = self.believed.take().or(before);
        }
        self.examined = looked.is_err();
        looked
    }

    /// Verifies again what passed before the agent was started, without the remote.
    ///
    /// # Errors
    /// Why it is not believed; `REF_MISSING` if nothing has passed yet.
    pub(super) fn recall(
        &mut self,
        common: &Common,
        present: &[ServiceName],
    ) -> Result<Arc<Believed>, Refusal> {
        self.mirror.check()?;
        let now = Timestamp::now();
        let verify = |stage| {
            self.verifier(common, present)
                .verify(stage, &common.accepted, now)
        };
        let believed = match verify(Stage::Verified) {
            // The agent ended between raising the floor and moving these refs.
            Err(refusal) if refusal.code.is_behind() => {
                verify(Stage::Incoming).map_err(|_| refusal)?
            }
            verified => verified?,
        };
        Ok(Arc::clone(self.believed.insert(Arc::new(believed))))
    }

    fn verifier<'a>(&'a self, common: &'a Common, present: &'a [ServiceName]) -> Verifier<'a> {
        Verifier {
            mirror: self.mirror.path(),
            identity: &common.identity,
            keeper: &*common.keeper,
            present,
        }
    }

    fn try_look(
        &mut self,
        common: &Common,
        present: &[ServiceName],
    ) -> Result<Arc<Believed>, Refusal> {
        if self.mirror.exists() {
            self.mirror.check()?;
        }
        if let Some(PassedOver {
            failed: Some(time), ..
        }) = &self.passed_over
            && time.elapsed() < TRUST_AGAIN
        {
            return self.pass(common, present, Trust::Verified);
        }
        let refusal = match self.pass(common, present, Trust::Shown) {
            Ok(believed) => {
                self.passed_over = None;
                return Ok(believed);
            }
            Err(refusal) => refusal,
        };
        if !self.may_go_on(&refusal) {
            return Err(refusal);
        }
        let failed = self.shown.is_none().then(Instant::now);
        // Whoever may push to `trust` and has no key shall stop nobody.
        match self.pass(common, present, Trust::Verified) {
            Ok(believed) => {
                self.passed_over = Some(PassedOver {
                    refusal: left_alone(refusal),
                    failed,
                });
                Ok(believed)
            }
            Err(_) => {
                self.passed_over = None;
                Err(refusal)
            }
        }
    }

    /// Says whether a remote that was refused may be looked at again without its `trust`: that is not the one that was
    /// verified, and nobody contradicts himself.
    fn may_go_on(&self, refusal: &Refusal) -> bool {
        if refusal.code.is_contradiction() || refusal.code.is_cut_short() {
            return false;
        }
        let Ok(git) = Git::open(self.mirror.path()) else {
            return false;
        };
        let verified = git.resolve(&format!("{}/trust", Stage::Verified));
        verified.is_ok_and(|verified| verified.is_some() && verified != self.shown)
    }

    /// Fetch → verify, once.
    fn pass(
        &mut self,
        common: &Common,
        present: &[ServiceName],
        trust: Trust,
    ) -> Result<Arc<Believed>, Refusal> {
        self.shown = None;
        let refs = match trust {
            Trust::Shown => Tips::refs(),
            Trust::Verified => Tips::refs_without_trust(),
        };
        let fetched = fetch::fetch(&mut self.worker, &self.remote, self.mirror.path(), refs)?;
        let now = Timestamp::now();
        let floor = common.accepted.floor();
        floor.check_clock(now)?;
        let git = Git::open(self.mirror.path())?;
        let tips = match trust {
            Trust::Shown => Tips::read(&git, Stage::Incoming)?,
            Trust::Verified => Tips::with_verified_trust(&git)?,
        };
        self.shown = Some(tips.trust);
        if let Some(believed) = &self.believed
            && believed.still_holds(&tips, floor.sequence, now)
        {
            return Ok(Arc::clone(believed));
        }
        let verifier = self.verifier(common, present);
        match verifier.verify_tips(&git, tips, &common.accepted, now) {
            Ok(believed) => {
                tips.keep(&git)?;
                if fetched.pack.is_some() {
                    self.mirror.pack(self.worker.program());
                }
                Ok(Arc::clone(self.believed.insert(Arc::new(believed))))
            }
            Err(refusal) => Err(self.refuse(&git, &fetched, refusal, common)),
        }
    }

    /// Why the remote's `trust` is left alone, if it is.
    pub(super) fn passed_over(&self) -> Option<&Refusal> {
        let passed_over = self.passed_over.as_ref();
        passed_over.map(|passed_over| &passed_over.refusal)
    }

    /// Throws away what was refused; a contradiction is kept as evidence, both sides of it.
    fn refuse(&self, git: &Git, fetched: &Fetched, refusal: Refusal, common: &Common) -> Refusal {
        if !refusal.code.is_contradiction() {
            return git.discard(fetched).err().unwrap_or(refusal);
        }
        let case = Case {
            url: &self.remote.url,
            mirror: self.mirror.path(),
            mirrors: &common.mirrors,
            floor: &common.accepted.floor(),
            refusal: &refusal,
        };
        match case.keep(&common.evidence) {
            Ok(Some(folder)) => {
                let detail = format!(
                    "{}; both sides are in '{}'",
                    refusal.detail,
                    folder.display()
                );
                Refusal::new(refusal.code, detail)
            }
            Ok(None) => refusal,
            Err(error) => {
                tracing::warn!(%error, "the evidence cannot be kept");
                refusal
            }
        }
    }

    /// Why the mirror, and not the remote, is to blame for a refusal: it holds what no fetch puts there, or what passed
    /// before does not lie there any more.
    fn damage(&self, refusal: &Refusal, common: &Common) -> Option<Refusal> {
        if !refusal.code.may_be_damaged_copy() || !self.mirror.exists() {
            return None;
        }
        if let Err(planted) = self.mirror.check() {
            return Some(planted);
        }
        let git = match Git::open(self.mirror.path()) {
            Ok(git) => git,
            Err(refusal) => return Some(refusal),
        };
        if self.examined {
            return None;
        }
        Tips::read(&git, Stage::Verified).ok()?;
        let verifier = self.verifier(common, &[]);
        let again = verifier.verify(Stage::Verified, &common.accepted, Timestamp::now());
        again.err().filter(|refusal| refusal.code.is_damaged_copy())
    }
}
