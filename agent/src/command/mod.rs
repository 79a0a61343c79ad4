//! The command line: one file a subcommand, each with its arguments and what it does.

mod fetch_worker;
mod proxy;
mod shim;
mod static_site;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::layout::Layout;

/// What the exit codes of every command mean; shown by `--help`.
const EXIT_CODES: &str = "Exit codes:\n  0  done, or all is well\n  1  refused, failed, or something is not well\n  2  wrong usage\n  3  cannot tell: no agent answers";

/// Pulls admitted releases, builds, checks and swaps them on this host, and rolls back by itself.
#[derive(Debug, Parser)]
#[command(name = "agent", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Put all files of the agent below this folder.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Read this file instead of ROOT/etc/writ/agent.yaml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    FetchWorker(fetch_worker::FetchWorkerArgs),
    Proxy(proxy::ProxyArgs),
    #[command(hide = true)]
    Shim(shim::ShimArgs),
    #[command(hide = true)]
    Static(static_site::StaticArgs),
}

/// Parses the command line, does what it says and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let layout = Layout::new(&cli.root)?;
    match &cli.command {
        Command::FetchWorker(_) => fetch_worker::cmd_fetch_worker(),
        Command::Proxy(args) => proxy::cmd_proxy(&layout, args),
        Command::Shim(args) => shim::cmd_shim(args),
        Command::Static(args) => static_site::cmd_static(args),
    }
}

/// Sends structured lines to standard error: from `info` on, or what `RUST_LOG` says.
fn log() {
    let level = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
