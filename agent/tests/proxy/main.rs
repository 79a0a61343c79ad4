//! The real `agent proxy` between real sockets, driven as the agent drives it.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows only functions with #[test] as tests"
)]

mod message;
mod process;
mod support;
mod swap;
