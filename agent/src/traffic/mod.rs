//! How requests reach a service's slots: the agent's side of the driver that forwards them.

#[allow(clippy::todo, unused_variables, dead_code, reason = "bodies follow")]
pub mod embedded;
