//! Every step of verification against repositories made by real git and ssh-keygen: what passes, and one attack a test.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod approvals;
mod freshness;
mod holds;
mod log;
mod main_branch;
mod needs;
mod newer;
mod policy;
mod properties;
mod releases;
mod rules;
mod support;
mod trust;
