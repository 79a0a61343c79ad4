//! The second stage of an intake: what was fetched, verified by [`state::verify`], becomes what is wanted of each
//! service. Tips that passed before are not verified again: only their freshness runs out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use state::admitted;
use state::digest::{PayloadHash, ReleaseId, Sha256Hash};
use state::floor::Floor;
use state::git::Git;
use state::manifest::Subject;
use state::name::{EnvironmentName, ServiceName};
use state::release::Release;
use state::verify::{HostIdentity, Stage, Tips, Validity, Verified, intake, releases};
use state::{Code, Refusal};

use crate::remotes::floor::{Accepted, Persist};
use crate::remotes::keeper::Keeper;
use crate::remotes::wanted::Wanted;

/// What a remote showed, believed.
#[derive(Clone, Debug)]
pub struct Believed {
    /// The commits that it was read from.
    pub tips: Tips,
    /// The sequence of the newest manifest.
    pub sequence: u64,
    /// Its hash.
    pub manifest: Sha256Hash,
    /// Until when that counts as the newest.
    pub fresh_until: Timestamp,
    /// Until when the trust file that judged it is in force.
    pub trusted_until: Timestamp,
    /// What is wanted of each service.
    pub wanted: BTreeMap<ServiceName, Wanted>,
    /// What refuses all releases of this environment.
    pub refused: Option<Refusal>,
    /// What the trust file says that this version does not know and need not.
    pub unknown_rights: Vec<String>,
}

impl Believed {
    /// Says whether these tips need no second look at `now`, by a host that has accepted `sequence`.
    pub fn still_holds(&self, tips: &Tips, sequence: u64, now: Timestamp) -> bool {
        self.tips == *tips && self.sequence >= sequence && now < self.trusted_until
    }

    /// Says whether nobody can tell any more that this is the newest admission.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now >= self.fresh_until || now >= self.trusted_until
    }

    /// The refusal for an admission that is not known to be the newest.
    pub fn stale(&self) -> Refusal {
        let detail = format!(
            "nothing proves that sequence {} is the newest since {}",
            self.sequence, self.fresh_until
        );
        Refusal::new(Code::Stale, detail)
    }
}

/// Who verifies, and by what.
pub struct Verifier<'a> {
    /// The mirror that was fetched into.
    pub mirror: &'a Path,
    /// Who asks.
    pub identity: &'a HostIdentity,
    /// Knows what was verified here before.
    pub keeper: &'a dyn Keeper,
    /// The services of which this host has a record.
    pub present: &'a [ServiceName],
}

impl Verifier<'_> {
    /// Verifies what lies in the mirror at `stage`; raises what was accepted, durably. Blocks.
    ///
    /// # Errors
    /// A refusal that ends the intake from this remote.
    pub fn verify(
        &self,
        stage: Stage,
        accepted: &Accepted,
        now: Timestamp,
    ) -> Result<Believed, Refusal> {
        let git = Git::open(self.mirror)?;
        let tips = Tips::read(&git, stage)?;
        self.verify_tips(&git, tips, accepted, now)
    }

    /// The same for any tips.
    ///
    /// # Errors
    /// Those of [`Verifier::verify`].
    pub fn verify_tips(
        &self,
        git: &Git,
        tips: Tips,
        accepted: &Accepted,
        now: Timestamp,
    ) -> Result<Believed, Refusal> {
        accepted.raise(|floor, persist| self.believe(git, tips, floor, now, persist))
    }

    fn believe(
        &self,
        git: &Git,
        tips: Tips,
        floor: &mut Floor,
        now: Timestamp,
        persist: Persist<'_>,
    ) -> Result<Believed, Refusal> {
        let intake = intake(git, &tips, floor, now, persist)?;
        let (Validity::Fresh { until } | Validity::Stale { since: until }) = intake.validity(now);
        let mut believed = Believed {
            tips,
            sequence: intake.manifest().sequence,
            manifest: intake.manifest().hash(),
            fresh_until: until,
            trusted_until: intake.chain().newest().expires,
            wanted: BTreeMap::new(),
            refused: None,
            unknown_rights: intake.chain().newest().unknown_rights(),
        };
        let known = |service: &ServiceName, release: &ReleaseId, origin: &PayloadHash| {
            self.keeper.knows(service, release, origin)
        };
        match releases(git, &intake, self.identity, &known) {
            Ok(releases) => {
                floor.advance_rules(intake.lineage());
                persist(floor)?;
                believed.wanted = releases
                    .into_iter()
                    .map(|(service, release)| (service, wanted(release)))
                    .collect();
            }
            Err(refusal) => believed.refused = Some(refusal),
        }
        for service in self.present {
            let subject = Subject::Service(service.clone());
            let file = admitted::path(&self.identity.environment, &subject);
            let elsewhere = intake.admitted().files.get(&file);
            believed.wanted.entry(service.clone()).or_insert_with(|| {
                match (&believed.refused, elsewhere) {
                    (Some(refusal), _) => Wanted::Refused(refusal.clone()),
                    (None, Some(bytes)) => leave(&self.identity.environment, service, bytes),
                    (None, None) => Wanted::Nothing,
                }
            });
        }
        Ok(believed)
    }
}

/// What is wanted of a service that runs here and whose release names other hosts. Nothing stops for what is not understood.
fn leave(environment: &EnvironmentName, service: &ServiceName, release: &[u8]) -> Wanted {
    match Release::from_yaml(environment.clone(), service.clone(), release) {
        Ok(_) => Wanted::Leave,
        Err(refusal) => Wanted::Refused(refusal),
    }
}

fn wanted(release: Result<Verified<Release>, Refusal>) -> Wanted {
    match release {
        Ok(release) => Wanted::Release(Arc::new(release)),
        Err(refusal) => Wanted::Refused(refusal),
    }
}
