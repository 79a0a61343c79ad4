//! The driver of Writ's own proxy: writes the durable table, tells the proxy over `proxy.sock`, reads back what it
//! serves. The proxy is a process of its own and outlives the agent; see [`ensure_running`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use state::name::ServiceName;
use state::refusal::Refusal;

use crate::proxy::protocol::{Observed, Pong};
use crate::route::RouteTable;
use crate::slot::Slot;

/// A client of the proxy's control socket.
#[derive(Clone, Debug)]
pub struct Embedded {
    socket: PathBuf,
    routes: PathBuf,
}

impl Embedded {
    /// Speaks to the proxy on `socket`, whose tables are the files in `routes`.
    pub fn new(socket: impl Into<PathBuf>, routes: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            routes: routes.into(),
        }
    }

    /// Asks whether the proxy lives.
    pub async fn ping(&self) -> Result<Pong, Refusal> {
        todo!()
    }

    /// Writes the table's file, has the proxy serve it, and reads its generation back.
    ///
    /// When this returns, a slot of weight 0 gets no new request. A table that the proxy refuses (`LISTEN_IN_USE`,
    /// `LISTEN_REFUSED`, `GENERATION_STALE`) leaves file and proxy as they were.
    pub async fn apply(&self, table: &RouteTable) -> Result<(), Refusal> {
        todo!()
    }

    /// What the proxy serves for `service`, with its counters; `None` if it does not know the service.
    pub async fn observe(&self, service: &ServiceName) -> Result<Option<Observed>, Refusal> {
        todo!()
    }

    /// Waits until no request is in flight at `slot`, at most for `limit`; returns how many remain.
    pub async fn drain(
        &self,
        service: &ServiceName,
        slot: Slot,
        limit: Duration,
    ) -> Result<u64, Refusal> {
        todo!()
    }

    /// Stops listening for `service` and removes its file.
    pub async fn remove(&self, service: &ServiceName) -> Result<(), Refusal> {
        todo!()
    }
}

/// Starts `program proxy ARGUMENTS` as a process of its own, its output appended to `log`, unless one answers already.
///
/// Returns once it answers, within `limit`.
pub async fn ensure_running(
    driver: &Embedded,
    program: &Path,
    arguments: &[&str],
    log: &Path,
    limit: Duration,
) -> Result<Pong, Refusal> {
    todo!()
}
