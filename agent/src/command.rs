//! The command line: one file a subcommand, each with its arguments and what it does.

mod apply;
mod checkout;
mod completions;
mod decide;
mod enroll;
mod fetch_worker;
mod history;
mod logs;
mod once;
mod plan;
mod proxy;
mod repack;
mod run;
#[cfg(test)]
mod sample;
mod shim;
mod static_site;
mod status;
mod step;
mod why;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use state::Refusal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::Config;
use crate::host::Host;
use crate::layout::Layout;
use crate::output::{self, Paint};
use crate::privilege;
use crate::progress::Progress;

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
    Enroll(enroll::EnrollArgs),
    Run(run::RunArgs),
    Once(once::OnceArgs),
    Status(status::StatusArgs),
    Plan(plan::PlanArgs),
    History(history::HistoryArgs),
    Why(why::WhyArgs),
    Logs(logs::LogsArgs),
    Rollback(decide::RollbackArgs),
    Hold(decide::HoldArgs),
    Resume(decide::ResumeArgs),
    Retry(decide::RetryArgs),
    Apply(apply::ApplyArgs),
    Proxy(proxy::ProxyArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    FetchWorker(fetch_worker::FetchWorkerArgs),
    #[command(hide = true)]
    Shim(shim::ShimArgs),
    #[command(hide = true)]
    Static(static_site::StaticArgs),
    #[command(hide = true)]
    Step(step::StepArgs),
    #[command(hide = true)]
    Checkout(checkout::CheckoutArgs),
    #[command(hide = true)]
    Repack(repack::RepackArgs),
}

/// How a command ended, beside refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done, or all is well.
    Well,
    /// Something is not well.
    NotWell,
    /// Nobody can tell.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Well => 0,
            Exit::NotWell => 1,
            Exit::Unknown => 3,
        })
    }
}

/// Where this host's files are.
struct Place {
    layout: Layout,
    config: PathBuf,
}

impl Place {
    fn config(&self) -> Result<Config, Refusal> {
        Config::load(&self.config)
    }

    /// This host, under the agent's lock.
    fn host(&self, progress: Progress) -> Result<Host, Refusal> {
        Host::open(self.layout.clone(), self.config()?, progress)
    }
}

/// Parses the command line, does what it says and gives the exit code.
pub fn main() -> ExitCode {
    privilege::keep_descriptors();
    let cli = Cli::parse();
    log(&cli.command);
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error, and the remedy if it has one.
fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => {
            let paint = Paint::of(&std::io::stderr());
            eprint!("{}", output::refusal(refusal, paint));
        }
        None => eprintln!("error: {error:#}"),
    }
}

/// The whole command line as a page of the documentation.
pub fn reference() -> String {
    let mut page =
        "# The command line of agent\n\nThis page is `agent help COMMAND` of every command.\n"
            .to_owned();
    let mut cli = Cli::command().term_width(100);
    cli.build();
    describe(&mut cli, &mut page);
    page
}

/// Adds the help of `command` and of its subcommands to `page`; hidden ones are started by the agent only.
fn describe(command: &mut clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let _ = write!(page, "\n## {name}\n\n```text\n");
    let help = command.render_long_help().to_string();
    for line in help.trim_end().lines() {
        let _ = writeln!(page, "{}", line.trim_end());
    }
    page.push_str("```\n");
    let shown = |sub: &&mut clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
    for sub in command.get_subcommands_mut().filter(shown) {
        describe(sub, page);
    }
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let layout = Layout::new(&cli.root)?;
    let place = Place {
        config: cli.config.clone().unwrap_or_else(|| layout.config()),
        layout,
    };
    match &cli.command {
        Command::Enroll(args) => enroll::cmd_enroll(&place, args),
        Command::Run(_) => run::cmd_run(&place),
        Command::Once(_) => once::cmd_once(&place),
        Command::Status(args) => status::cmd_status(&place, args),
        Command::Plan(args) => plan::cmd_plan(&place, args),
        Command::History(args) => history::cmd_history(&place, args),
        Command::Why(args) => why::cmd_why(&place, args),
        Command::Logs(args) => logs::cmd_logs(&place, args),
        Command::Rollback(args) => decide::cmd_rollback(&place, args),
        Command::Hold(args) => decide::cmd_hold(&place, args),
        Command::Resume(args) => decide::cmd_resume(&place, args),
        Command::Retry(args) => decide::cmd_retry(&place, args),
        Command::Apply(args) => apply::cmd_apply(&place, args),
        Command::Proxy(args) => proxy::cmd_proxy(&place.layout, args).map(|()| Exit::Well),
        Command::Completions(args) => completions::cmd_completions(args),
        Command::FetchWorker(_) => fetch_worker::cmd_fetch_worker().map(|()| Exit::Well),
        Command::Shim(args) => shim::cmd_shim(args).map(|()| Exit::Well),
        Command::Static(args) => static_site::cmd_static(args).map(|()| Exit::Well),
        Command::Step(args) => step::cmd_step(args).map(|()| Exit::Well),
        Command::Checkout(args) => checkout::cmd_checkout(args).map(|()| Exit::Well),
        Command::Repack(args) => Ok(repack::cmd_repack(args).map(|()| Exit::Well)?),
    }
}

/// A runtime on this thread: an agent waits most of the time, and blocking work has threads of its own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// A runtime for a daemon with many services: while one writes its record, others go on. Its threads last as long as
/// it does, since what is started from one may die with it.
fn daemon_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
}

/// Sends structured lines to standard error: what `RUST_LOG` says, else from `info` on where nobody watches a screen,
/// and warnings where somebody does.
fn log(command: &Command) {
    let terminal = std::io::stderr().is_terminal();
    let level = match command {
        Command::Run(_) | Command::Proxy(_) => LevelFilter::INFO,
        Command::Once(_) if !terminal => LevelFilter::INFO,
        _ => LevelFilter::WARN,
    };
    let level = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env_lossy();
    let colours = Paint::of(&std::io::stderr()) == Paint::Colours;
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
}
