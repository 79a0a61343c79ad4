//! The command line: one file a subcommand, each with its arguments and what it does.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use state::Refusal;
use state::text::escape_lines;

use crate::candidate::Candidate;
use crate::evidence::Evidence;
use crate::judge::Judged;
use crate::output::{self, Paint};
use crate::rule::Verdict;

mod init;
mod keygen;
mod trust;

mod check;
mod diff;
mod release;

mod admit;
mod hold;
mod hook;
mod run;

mod approve;
mod audit;
mod log;
mod pending;
mod replay;

mod completions;

/// What the exit codes of every command mean; shown by `--help`.
const EXIT_CODES: &str = "Exit codes:\n  0   done\n  1   refused\n  2   wrong usage, or the environment is not as needed\n  75  something waits";

/// Judges desired-state commits, countersigns those it admits, and helps to write them.
#[derive(Debug, Parser)]
#[command(name = "policy", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Keygen(keygen::KeygenArgs),
    Trust(trust::TrustArgs),
    Check(check::CheckArgs),
    Diff(diff::DiffArgs),
    Release(release::ReleaseArgs),
    Admit(admit::AdmitArgs),
    Hold(hold::HoldArgs),
    Hook(hook::HookArgs),
    Run(run::RunArgs),
    Approve(approve::ApproveArgs),
    Log(log::LogArgs),
    Audit(audit::AuditArgs),
    Replay(replay::ReplayArgs),
    Pending(pending::PendingArgs),
    Completions(completions::CompletionsArgs),
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done,
    /// Something was refused; what and why is printed.
    Refused,
    /// Nothing was refused, but something waits.
    Waits,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Waits => 75, // EX_TEMPFAIL of sysexits.h
        })
    }
}

impl Exit {
    /// How a command ends that only says the verdicts `judged`.
    fn of(judged: &[Judged]) -> Self {
        let any = |which: fn(&Verdict) -> bool| judged.iter().any(|one| which(&one.verdict));
        if any(|verdict| matches!(verdict, Verdict::Refuse(_))) {
            Self::Refused
        } else if any(|verdict| matches!(verdict, Verdict::Wait { .. })) {
            Self::Waits
        } else {
            Self::Done
        }
    }
}

/// The whole command line as a page of the documentation.
pub fn reference() -> String {
    let mut page =
        "# The command line of policy\n\nThis page is `policy help COMMAND` of every command.\n"
            .to_owned();
    let mut cli = Cli::command().term_width(100);
    cli.build();
    describe(&mut cli, &mut page);
    page
}

/// Adds the help of `command` and of its subcommands to `page`; hidden ones are called by hooks only.
fn describe(command: &mut clap::Command, page: &mut String) {
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!(
        "\n## {name}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    ));
    let shown = |sub: &&mut clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
    for sub in command.get_subcommands_mut().filter(shown) {
        describe(sub, page);
    }
}

/// Parses the command line, does what it says and gives the exit code.
pub fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error),
    }
}

fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Trust(args) => trust::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Release(args) => release::run(&args),
        Command::Admit(args) => admit::run(&args),
        Command::Hold(args) => hold::run(&args),
        Command::Hook(args) => hook::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Approve(args) => approve::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Pending(args) => pending::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Prints the verdicts on `candidate` and what is held.
fn say(judged: &[Judged], evidence: &Evidence, candidate: &Candidate) -> Exit {
    let paint = Paint::of(&std::io::stdout());
    out!("{}", output::verdicts(judged, paint));
    let authors = &candidate.rendered.holds;
    out!("{}", output::holds(&evidence.held, authors, paint));
    Exit::of(judged)
}

/// Prints what was refused to standard error, each with its remedy.
fn refused(refusals: &[Refusal]) -> Exit {
    let paint = Paint::of(&std::io::stderr());
    for refusal in refusals {
        err!("{}", output::refusal(refusal, paint));
    }
    Exit::Refused
}

/// Prints the error once, with its remedy if it is a refusal.
fn fail(error: &anyhow::Error) -> ExitCode {
    let paint = Paint::of(&std::io::stderr());
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => {
            err!("{}", output::refusal(refusal, paint));
            ExitCode::from(1)
        }
        None => {
            let error = escape_lines(&format!("{error:#}"));
            errln!("{} {error}", paint.paint(output::Colour::Red, "error:"));
            ExitCode::from(2)
        }
    }
}
