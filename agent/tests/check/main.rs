//! Probes against real slots.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

mod probe;
mod static_site;
