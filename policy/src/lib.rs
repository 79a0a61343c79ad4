//! What may be admitted, and when: judges the commits that authors push to a state repository and countersigns those
//! that it admits. It can do nothing else: it cannot author, and hosts check everything but its timing again.
//!
//! The modules stand in the order in which a candidate meets them.

pub mod settings;

pub mod change;
pub mod history;
pub mod judge;
pub mod rule;

pub mod command;
pub mod output;
pub mod program;
