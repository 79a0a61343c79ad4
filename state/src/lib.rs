//! What should run on a fleet, and who says so.
//!
//! A *state repository* holds what authors want (`main`), what policy admitted (`admitted`), that the
//! last admission is the newest one (`fresh`) and who may sign what (`trust`). This crate reads those
//! branches, believes nothing that is not signed, and hands out [`verify::Verified`] releases.
//! It prints nothing, asks no clock and reads no environment variable: time, paths and limits are arguments.
//!
//! The modules stand in the order in which a commit meets them.

pub mod digest;
pub mod name;
pub mod refusal;
pub mod text;
pub mod unit;

pub mod yaml;

pub mod environment;
pub mod origin;
pub mod pin;
pub mod release;
pub mod render;
pub mod service;

pub mod git;

pub mod key;
pub mod sshsig;

pub mod commit;
pub mod tree;
pub mod trust;

pub mod limit;

pub mod admitted;
pub mod approval;
pub mod freshness;
pub mod manifest;
mod statement;

pub mod durable;
pub mod file;
pub mod floor;
pub mod lock;
pub mod verify;

#[cfg(test)]
mod oracle;

pub use refusal::{Code, Refusal};
