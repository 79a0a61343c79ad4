//! `policy run REPO`: the daemon. Admits what waited when its time comes, renews `fresh`, wakes when a branch moves; it
//! asks the remote of a mirror whether one did.
//!
//! It may be killed at any moment: every pass completes what the one before left half done. Several may serve one
//! repository: all of them wake, and a pass has the repository to itself.

mod told;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use state::digest::ObjectId;
use state::unit::Period;

use self::told::Told;
use super::{Exit, admit};
use crate::admit::{Admitter, Looked};
use crate::branch::Branch;
use crate::hosted::{self, Moved, Upstream};
use crate::settings::Folder;
use crate::wake::{Calls, Wake};

/// When a pass that failed is tried again, if nothing moves before.
const RETRY: Duration = Duration::from_secs(60);

/// How long a remote that does not answer is left alone at most.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Admit what waits at its time and keep the log fresh, until SIGTERM or SIGINT. Several may serve one repository.
///
/// Says what is new as `policy admit` does. With RUST_LOG in its environment, such as `RUST_LOG=info`, it writes
/// structured lines to standard error instead.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    served: admit::Served,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let repository = args.served.open()?;
    let path: PathBuf = repository
        .folder
        .canonicalize()
        .with_context(|| format!("cannot find '{}'", repository.folder.display()))?;
    let folder = Folder::of(&path);
    folder.create()?;
    let key = args.served.key(&folder)?;
    let mut calls = Calls::listen(&repository, &folder)?;
    let told = Told::new();
    let upstream = repository.upstream.as_ref();
    told.serving(&path, upstream.map(Upstream::url));
    let mut daemon = Daemon {
        admitter: Admitter {
            repository: &repository,
            folder: &folder,
            key: &key,
        },
        poll: repository.upstream.as_ref().map(|upstream| upstream.poll),
        due: Instant::now(),
        left: None,
        failures: 0,
        told,
    };
    let mut wake = Wake::Due;
    loop {
        if wake == Wake::End {
            return Ok(Exit::Done);
        }
        match daemon.turn(wake) {
            Some(Moved::Policys) => calls.unrest(),
            Some(_) => {}
            None => calls.settled(),
        }
        wake = calls.next(daemon.rest())?;
    }
}

/// The daemon between two passes.
struct Daemon<'a> {
    admitter: Admitter<'a>,
    /// How often the remote is asked, if there is one.
    poll: Option<Period>,
    /// When a pass is due, whatever moves.
    due: Instant,
    /// Where the last pass left the branches that policy writes.
    left: Option<[Option<ObjectId>; 2]>,
    /// How many turns in a row have failed.
    failures: u32,
    told: Told,
}

impl Daemon<'_> {
    /// Makes a pass if one is needed; if none is, says what moved on the remote.
    fn turn(&mut self, wake: Wake) -> Option<Moved> {
        let now = Timestamp::now();
        // What policy servers moved may be this one's own doing.
        if wake == Wake::Quiet && self.failures == 0 && self.left == Some(self.tips()) {
            return None;
        }
        let is_due = self.failures > 0 || wake == Wake::Quiet || Instant::now() >= self.due;
        let looked = match is_due {
            true => self
                .admitter
                .pass(now)
                .map(|pass| Looked::Passed(Box::new(pass))),
            false => self.admitter.look(now),
        };
        match looked {
            Ok(Looked::Passed(pass)) => {
                self.told.pass(&pass);
                self.failures = 0;
                self.left = Some(self.tips());
                let due = pass.next(now).duration_since(Timestamp::now());
                let due = Duration::try_from(due).unwrap_or_default();
                self.due = Instant::now() + due.min(Duration::from_hours(24));
                None
            }
            Ok(Looked::Idle(moved)) => Some(moved),
            Err(refusal) => {
                self.told.failed(refusal);
                self.failures = self.failures.saturating_add(1);
                None
            }
        }
    }

    /// How long there is nothing to do by itself.
    fn rest(&self) -> Duration {
        let due = self.due.saturating_duration_since(Instant::now());
        match (self.poll, self.failures) {
            (None, 0) => due,
            (None, _) => RETRY,
            (Some(poll), 0) => due.min(jittered(poll.duration())),
            (Some(poll), failures) => {
                let poll = poll.duration();
                let doubled = poll.saturating_mul(1 << failures.min(10));
                jittered(doubled.min(LONGEST_RETRY.max(poll)))
            }
        }
    }

    fn tips(&self) -> [Option<ObjectId>; 2] {
        let tip = |branch| self.admitter.repository.tip(branch).ok().flatten();
        [tip(Branch::Admitted), tip(Branch::Fresh)]
    }
}

/// `period`, up to a tenth shorter or longer: servers that were started together do not ask together.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.9 + 0.2 * hosted::chance())
}
