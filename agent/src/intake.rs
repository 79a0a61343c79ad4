//! An intake: fetch → verify, over all remotes; the highest sequence that passes wins. What runs is not touched here.

use jiff::Timestamp;
use state::Refusal;
use state::digest::Sha256Hash;
use state::floor::Floor;
use state::git::fetch::Fetched;
use state::git::worker::Worker;
use state::name::ServiceName;
use state::verify::{HostIdentity, Known};

use crate::config::{Config, Remote};
use crate::fetch;
use crate::layout::Layout;
use crate::verify::{Believed, Verifier};

/// Looks at the remotes, again and again.
#[derive(Debug)]
pub struct Intake {
    layout: Layout,
    identity: HostIdentity,
    sources: Vec<Source>,
    floor: Floor,
    durability: Durability,
}

/// Whether what an intake accepts is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The floor is raised, durably.
    Raise,
    /// Only looked at: the floor on disk stays.
    Look,
}

/// One remote, its worker and what it showed last.
#[derive(Debug)]
struct Source {
    remote: Remote,
    worker: Worker,
    believed: Option<Believed>,
}

/// What came of one look at all remotes.
#[derive(Debug)]
pub struct Outcome {
    /// The best that was believed, now or at an earlier look.
    pub believed: Option<Believed>,
    /// Whether it is another than at the last look.
    pub news: bool,
    /// Why no remote was believed.
    pub refused: Option<Refusal>,
}

impl Intake {
    /// Prepares; the floor is read, nothing is fetched.
    ///
    /// # Errors
    /// `STATE_MISSING`, `STATE_UNSAFE`.
    pub fn new(
        layout: Layout,
        config: &Config,
        worker: impl Fn() -> Worker,
        durability: Durability,
    ) -> Result<Self, Refusal> {
        let floor = Floor::load(&layout.floor())?;
        let source = |remote: &Remote| Source {
            remote: remote.clone(),
            worker: worker(),
            believed: None,
        };
        Ok(Self {
            layout,
            identity: HostIdentity {
                environment: config.environment.clone(),
                host: config.host.clone(),
                labels: config.labels.clone(),
            },
            sources: config.remotes.iter().map(source).collect(),
            floor,
            durability,
        })
    }

    /// The highest sequence that was accepted.
    pub fn sequence(&self) -> u64 {
        self.floor.sequence
    }

    /// The hash of its manifest; `None` before the first.
    pub fn manifest(&self) -> Option<Sha256Hash> {
        (self.floor.sequence > 0).then_some(self.floor.manifest)
    }

    /// Looks at every remote. Blocks.
    pub fn look(&mut self, now: Timestamp, known: Known<'_>, present: &[ServiceName]) -> Outcome {
        let mirror = match self.durability {
            Durability::Raise => self.layout.mirror(),
            Durability::Look => self.layout.plan_mirror(),
        };
        let (path, durability) = (self.layout.floor(), self.durability);
        let mut persist = |floor: &Floor| match durability {
            Durability::Raise => floor.save(&path),
            Durability::Look => Ok(()),
        };
        let verifier = Verifier {
            mirror: &mirror,
            identity: &self.identity,
            known,
            present,
        };
        let mut refused = None;
        let mut passed = false;
        let mut news = false;
        for source in &mut self.sources {
            let looked =
                fetch::fetch(&mut source.worker, &source.remote, &mirror).and_then(|fetched| {
                    source.verify(&verifier, &fetched, &mut self.floor, now, &mut persist)
                });
            match looked {
                Ok(new) => (passed, news) = (true, news || new),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        let believed = self
            .sources
            .iter()
            .filter_map(|source| source.believed.as_ref());
        let believed = believed.max_by_key(|believed| (believed.sequence, believed.fresh_until));
        Outcome {
            believed: believed.cloned(),
            news,
            refused: refused.filter(|_| !passed),
        }
    }
}

impl Source {
    /// Verifies what was fetched, unless it is what passed before. Says whether it was anything new.
    fn verify(
        &mut self,
        verifier: &Verifier<'_>,
        fetched: &Fetched,
        floor: &mut Floor,
        now: Timestamp,
        persist: &mut dyn FnMut(&Floor) -> Result<(), Refusal>,
    ) -> Result<bool, Refusal> {
        floor.check_clock(now)?;
        let tips = verifier.tips()?;
        if self
            .believed
            .as_ref()
            .is_some_and(|believed| believed.still_holds(&tips, now))
        {
            return Ok(false);
        }
        self.believed = Some(verifier.verify(fetched, floor, now, persist)?);
        Ok(true)
    }
}
