//! A host of the fleet, with its floor in memory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use state::floor::Floor;
use state::name::ServiceName;
use state::release::Release;
use state::verify::{self, HostIdentity, Intake, Verified};
use state::{Code, Refusal};

use super::{Fleet, at};

/// The verdicts of [`verify::releases`].
pub(crate) type Releases = BTreeMap<ServiceName, Result<Verified<Release>, Refusal>>;

/// A host of `prod` with its floor, in memory.
pub(crate) struct Host {
    pub(crate) floor: Floor,
    /// How often the floor was made durable.
    pub(crate) persisted: usize,
}

impl Host {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let identity = identity();
        Self {
            floor: Floor::enrolled(fleet.domain, identity.environment, identity.host),
            persisted: 0,
        }
    }

    /// Takes in the fleet's branches at a time when the tip is a few minutes old.
    pub(crate) fn intake(&mut self, fleet: &Fleet) -> Result<Intake, Refusal> {
        self.intake_at(fleet, at(30))
    }

    pub(crate) fn intake_at(&mut self, fleet: &Fleet, now: Timestamp) -> Result<Intake, Refusal> {
        let persisted = &mut self.persisted;
        verify::intake(
            &fleet.git(),
            &fleet.tips(),
            &mut self.floor,
            now,
            &mut |_| {
                *persisted += 1;
                Ok(())
            },
        )
    }

    /// Takes in the branches and judges the releases, none of which is known.
    pub(crate) fn releases(&mut self, fleet: &Fleet) -> Result<Releases, Refusal> {
        let intake = self.intake(fleet)?;
        let releases = verify::releases(&fleet.git(), &intake, &identity(), &|_, _, _| false)?;
        self.floor.advance_rules(intake.lineage());
        Ok(releases)
    }
}

/// Who the hosts of the tests say they are.
pub(crate) fn identity() -> HostIdentity {
    HostIdentity {
        environment: "prod".parse().unwrap(),
        host: "web-1".parse().unwrap(),
        labels: BTreeMap::new(),
    }
}

/// The code with which a new host refuses the branches.
#[track_caller]
pub(crate) fn refused(fleet: &Fleet) -> Code {
    let refusal = Host::of(fleet).intake(fleet).unwrap_err();
    eprintln!("{refusal}");
    refusal.code
}

/// The code with which a new host, which takes the branches in, refuses `web`.
#[track_caller]
pub(crate) fn web_refused(fleet: &Fleet) -> Code {
    let releases = Host::of(fleet).releases(fleet).unwrap();
    let refusal = releases["web"].as_ref().unwrap_err();
    eprintln!("{refusal}");
    refusal.code
}
