//! What may be admitted, and when: judges the commits that authors push to a state repository and countersigns those
//! that it admits. It can do nothing else: it cannot author, and hosts check everything but its timing again.
//!
//! The modules stand in the order in which a candidate meets them.

#[macro_use]
pub mod output;

pub mod branch;
pub mod hosted;
pub mod repository;
pub mod settings;
pub mod way_out;

pub mod admitted;
pub mod checkpoint;
pub mod history;
pub mod log;

pub mod candidate;
pub mod change;
pub mod collect;
pub mod evidence;
pub mod hold;
pub mod judge;
pub mod require;
pub mod rule;

pub mod admit;
pub mod append;
pub mod fresh;
pub mod hook;
pub mod wake;
pub mod weight;

pub mod audit;
pub mod ceremony;
pub mod command;
pub mod difference;
pub mod program;
pub mod replay;
pub mod sign;
pub mod worktree;

#[cfg(test)]
mod testing;
