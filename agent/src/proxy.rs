//! The embedded proxy: a process of its own (`agent proxy`) that owns the listening sockets and forwards requests to
//! slots as the table files say. The agent may die at any time without a request noticing.
//!
//! A request goes through [`listen`], [`forward`], [`service`] and [`pool`]; the agent's orders through [`control`]
//! and [`registry`].

mod answer;
mod body;
mod control;
mod forward;
mod header;
mod limit;
mod listen;
mod pool;
pub mod protocol;
mod registry;
mod service;

pub(crate) use listen::not_bound;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use rustix::thread::CapabilitySet;
use state::lock::Lock;
use tokio::signal::unix::{SignalKind, signal};

use crate::lock::MODE;
use crate::privilege;
pub use limit::Limits;
use registry::Registry;

/// Where the proxy finds its tables and its orders.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the table files.
    pub routes: PathBuf,
    /// The control socket. Beside it lies the lock that keeps a second proxy away.
    pub socket: PathBuf,
    /// Whether to leave the starter's session.
    pub session: Session,
    /// What it puts up with.
    pub limits: Limits,
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
pub fn run(options: Options) -> anyhow::Result<()> {
    if options.session == Session::Own {
        setsid().context("cannot begin a session")?;
    }
    raise_file_limit();
    // Root's proxy binds ports below 1024 and reaches the sockets of slots; it is the only one of Writ that does either.
    privilege::keep_only(CapabilitySet::NET_BIND_SERVICE | CapabilitySet::DAC_OVERRIDE)
        .context("cannot give up rights")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lock = lock(&options.socket)?;
    let routes = options.routes.display().to_string();
    let registry = Registry::load(options.routes, options.limits).await;
    let registry = Arc::new(registry.with_context(|| format!("cannot read '{routes}'"))?);
    let control = control::open(&options.socket)
        .with_context(|| format!("cannot listen on '{}'", options.socket.display()))?;
    tokio::select! {
        () = control::serve(control, registry.clone()) => {}
        () = registry.tidy() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    // The successor may start now: the addresses are free as soon as `close` has closed the sockets.
    let _ = std::fs::remove_file(&options.socket);
    registry.close(move || drop(lock)).await;
    Ok(())
}

/// Takes the lock beside the control socket; released when dropped, or by the kernel.
fn lock(socket: &Path) -> anyhow::Result<Lock> {
    let path = socket.with_extension("lock");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make '{}'", folder.display()))?;
    }
    Lock::take(&path, MODE, Duration::ZERO)
        .with_context(|| format!("cannot lock '{}'", path.display()))
}

/// Allows as many open files as the system does: every request takes two.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error = %error, "cannot raise the limit of open files");
    }
}
