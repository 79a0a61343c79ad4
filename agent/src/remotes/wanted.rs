//! What the remotes come to for one service.

use std::sync::Arc;

use state::Refusal;
use state::release::Release;
use state::verify::Verified;

/// What is wanted of a service.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// That it is as this release says.
    Release(Arc<Verified<Release>>),
    /// That it leaves this host: it is placed elsewhere now.
    Leave,
    /// Nothing new: its release was refused.
    Refused(Refusal),
    /// Nothing new: nobody can tell what is newest, or the admitted tree does not mention it.
    Nothing,
}

/// Whether the remotes had their say since the agent was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// They are being asked for the first time.
    Awaited,
    /// One has passed, or each has answered or was given up.
    Given,
}
