//! Who says so: the steps by which a host believes what a repository shows, and by which policy believes its own.
//!
//! The numbers in the comments are the steps of the specification. Steps 1 to 8 end the intake from a remote, see
//! [`intake`]; steps 9 to 13 refuse one release, see [`releases`]. Policy runs the same code on the repository that it
//! serves, see [`log`]. What a step needs is read through [`crate::git`], which hashes every object again (step 3).

mod additions;
mod admissions;
mod approvals;
mod chain;
mod checkpoint;
mod content;
mod evidence;
mod files;
mod freshness;
mod holds;
mod intake;
mod log;
mod main_walk;
mod needs;
mod origins;
mod own;
mod releases;
mod signers;
mod statement;
mod trust_moves;

pub use approvals::Approvals;
pub use chain::{Chain, domain_of, trust_file};
pub use checkpoint::Checkpoint;
pub use evidence::evidence;
pub use freshness::{Validity, read as read_freshness, witness};
pub use intake::{Intake, Stage, Tips, intake};
pub use log::Entry;
pub use own::{Log, log, log_since};
pub use releases::{HostIdentity, Known, Verified, recall, releases};
pub use statement::is_signed;
pub use trust_moves::check_trust_move;
