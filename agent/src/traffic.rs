//! How requests reach a service's slots: the agent's side of the driver that forwards them.

pub mod embedded;
pub mod table;
