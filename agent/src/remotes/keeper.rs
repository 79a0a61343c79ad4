//! What the remotes ask of the host.

use std::fmt;

use state::digest::{PayloadHash, ReleaseId};
use state::git::worker::Worker;
use state::name::ServiceName;

/// What an intake asks of the host.
pub trait Keeper: fmt::Debug + Send + Sync {
    /// Says whether a release was verified here before.
    fn knows(&self, service: &ServiceName, release: &ReleaseId, origin: &PayloadHash) -> bool;

    /// Is told what was found damaged and what was done about it.
    fn note_damage(&self, text: &str);

    /// Makes a fetch worker that is not started yet.
    fn worker(&self) -> Worker;
}
