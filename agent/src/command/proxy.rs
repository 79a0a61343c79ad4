//! `agent proxy`: the embedded proxy as a process of its own.

use crate::layout::Layout;
use crate::proxy::{self, Limits, Options, Session};

/// Forward requests to the slots as the routing tables say, until SIGTERM
///
/// The agent starts it by itself unless agent.yaml says `proxy: external`. It listens on the addresses that the tables
/// in ROOT/var/lib/writ/routes name, takes orders on ROOT/run/writ/proxy.sock, and ends no request when it stops.
#[derive(Debug, clap::Args)]
pub(super) struct ProxyArgs {
    /// Lead a session of its own, so that it outlives the terminal and the agent.
    #[arg(long)]
    detach: bool,
}

pub(super) fn cmd_proxy(layout: &Layout, args: &ProxyArgs) -> anyhow::Result<()> {
    proxy::run(Options {
        routes: layout.routes(),
        socket: layout.proxy_socket(),
        session: if args.detach {
            Session::Own
        } else {
            Session::Inherited
        },
        limits: Limits::default(),
    })
}
