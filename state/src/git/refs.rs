//! Refs: read by their full name, moved together by compare-and-swap.

use gix::refs::{FullName, Target};

use super::{Git, unusable};
use crate::digest::ObjectId;
use crate::{Code, Refusal};

/// One move of a [`Git::transaction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// The full name, such as `refs/heads/admitted`.
    pub name: String,
    /// What the ref must point at now; `None`: it must not exist.
    pub expected: Option<ObjectId>,
    /// What it is to point at; `None`: it is deleted.
    pub new: Option<ObjectId>,
}

impl Git {
    /// What the ref with this full name points at; `None` if there is no such ref.
    pub fn resolve(&self, name: &str) -> Result<Option<ObjectId>, Refusal> {
        let full = full_name(name)?;
        let found = self
            .repository
            .refs
            .try_find(full.as_ref())
            .map_err(|error| unusable(self.path(), &error))?;
        match found {
            Some(reference) if reference.name == full => match reference.target {
                Target::Object(id) => super::object_id(&id).map(Some),
                Target::Symbolic(_) => {
                    let detail = format!("'{name}' is a symbolic ref");
                    Err(Refusal::new(Code::RepositoryUnsupported, detail))
                }
            },
            _ => Ok(None),
        }
    }

    /// What the ref with this full name points at.
    ///
    /// # Errors
    /// `REF_MISSING` if there is no such ref.
    pub fn require(&self, name: &str) -> Result<ObjectId, Refusal> {
        self.resolve(name)?.ok_or_else(|| {
            Refusal::new(
                Code::RefMissing,
                format!("'{name}' in '{}'", self.path().display()),
            )
        })
    }

    /// Moves all refs or none, if each still points at what is expected. Everything written before is made durable
    /// first, the moves themselves before this returns.
    ///
    /// # Errors
    /// `LOST_RACE` if an expectation fails or somebody else holds a ref's lock.
    #[allow(clippy::todo, reason = "being written")]
    pub fn transaction(&self, updates: &[RefUpdate]) -> Result<(), Refusal> {
        todo!("{updates:?}")
    }
}

/// Parses a full ref name.
fn full_name(name: &str) -> Result<FullName, Refusal> {
    FullName::try_from(name)
        .map_err(|_| Refusal::new(Code::RefMissing, format!("'{name}' is not a full ref name")))
}
