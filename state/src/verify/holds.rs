//! Steps 12 and 13: what is held, by the newest manifest's word and by that of the authors it was made from.

use crate::git::Git;
use crate::manifest::{Hold, Manifest};
use crate::name::{EnvironmentName, ServiceName};
use crate::tree::Files;
use crate::{Code, Refusal, render, yaml};

use super::files::Folder;
use super::intake::Intake;

/// The holds of one environment.
///
/// An author's hold is read from the tree of the commit that the newest manifest names, whoever signed that commit: to
/// hold is never wrong, and who could leave a hold out could as well keep that commit from being admitted.
pub(super) struct Holds<'a> {
    intake: &'a Intake,
    environment: &'a EnvironmentName,
    overlays: Option<Folder<'a>>,
}

impl<'a> Holds<'a> {
    pub(super) fn of(
        git: &'a Git,
        intake: &'a Intake,
        environment: &'a EnvironmentName,
    ) -> Result<Self, Refusal> {
        let author = &intake.manifest().author.commit;
        let overlays = Folder::at(git, author, &format!("environments/{environment}"))?;
        Ok(Self {
            intake,
            environment,
            overlays,
        })
    }

    /// Checks that nobody holds a service, and that the manifest does not hide that an author does.
    ///
    /// # Errors
    /// `HELD`, `HOLD_MISSING`.
    pub(super) fn check(&self, service: &ServiceName) -> Result<(), Refusal> {
        let author = self.author(service)?;
        let sequence = self.intake.manifest().sequence;
        let (code, detail) = match (self.intake.hold(self.environment, service), author) {
            (None, None) => return Ok(()),
            (None, Some(reason)) => (
                Code::HoldMissing,
                format!("its author holds it and manifest {sequence} does not: {reason}"),
            ),
            (Some(hold), Some(reason)) if hold.reason == Hold::AUTHOR => {
                (Code::Held, format!("held by its author: {reason}"))
            }
            (Some(hold), _) => (
                Code::Held,
                format!("held by manifest {sequence}: {}", hold.reason),
            ),
        };
        Err(Refusal::new(code, detail))
    }

    /// Why an author holds the service.
    fn author(&self, service: &ServiceName) -> Result<Option<String>, Refusal> {
        let Some(overlays) = &self.overlays else {
            return Ok(None);
        };
        let file = overlays.file(&format!("{service}.yaml"), yaml::MAX_BYTES as u64)?;
        file.map_or(Ok(None), |bytes| render::hold(&bytes))
    }
}

/// 12. What authors hold is held, and nothing in their name that they do not.
///
/// # Errors
/// `HOLD_MISSING`.
pub(super) fn check(author: &Files, manifest: &Manifest) -> Result<(), Refusal> {
    let holds = render::holds(author)?;
    let held = |environment: &EnvironmentName, service: &ServiceName| {
        let mut holds = manifest.holds.iter();
        holds.any(|hold| hold.holds(environment, service))
    };
    let mut dropped = holds.keys().filter(|(of, service)| !held(of, service));
    if let Some((environment, service)) = dropped.next() {
        let detail = format!("{environment} {service} is held by its author");
        return Err(Refusal::new(Code::HoldMissing, detail));
    }
    let in_name_of_authors = |hold: &&Hold| hold.reason == Hold::AUTHOR;
    let wrong = manifest
        .holds
        .iter()
        .filter(in_name_of_authors)
        .find(|hold| {
            let mut keys = holds.keys();
            !keys.any(|(environment, service)| hold.holds(environment, service))
        });
    wrong.map_or(Ok(()), |hold| {
        let (environment, subject) = hold.place();
        let detail = format!("{environment} {subject} is not held by its author");
        Err(Refusal::new(Code::HoldMissing, detail))
    })
}
