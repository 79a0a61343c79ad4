//! What `agent status` shows: a summary of this host, written to status.json after every pass, also when it failed, and at
//! most once a second between.

mod board;
mod view;

pub use self::board::Board;
pub use self::view::*;
