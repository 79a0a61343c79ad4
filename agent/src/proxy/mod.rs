//! The embedded proxy: a process of its own (`agent proxy`) that owns the listening sockets and forwards requests to
//! slots as the table files say. The agent may die at any time without a request noticing.

pub mod protocol;

use std::path::PathBuf;

/// Where the proxy finds its tables and its orders.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the table files.
    pub routes: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Whether to leave the starter's session.
    pub session: Session,
}

/// Whether the proxy leaves the session of the process that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// It leads a session of its own: no signal meant for its starter's terminal reaches it.
    Own,
    /// It stays, as under a service manager or a terminal.
    Inherited,
}

/// Runs the proxy until SIGTERM or SIGINT, then lets the requests in flight finish.
#[allow(clippy::todo, reason = "bodies follow")]
#[allow(clippy::needless_pass_by_value)]
pub fn run(_options: Options) -> anyhow::Result<()> {
    todo!()
}
