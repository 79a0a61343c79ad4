//! `agent status`: this host on one screen.

#[cfg(test)]
mod page;
mod screen;
mod shown;

use anyhow::bail;
use jiff::Timestamp;
use state::durable;
use state::{Code, Refusal};

pub(super) use self::screen::{render, waits};
pub(super) use self::shown::Shown;
use super::{Exit, Place, complain};
use crate::output::{self, Paint};
use crate::socket::{self, Answer, Request};
use crate::status::Status;

/// Show how this host and its services are
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Print JSON; see docs/reference/status.md.
    #[arg(long)]
    json: bool,
}

pub(super) fn cmd_status(place: &Place, args: &StatusArgs) -> anyhow::Result<Exit> {
    let shown = match read(place) {
        Ok(Some(shown)) => shown,
        Ok(None) if place.layout.floor().exists() => {
            eprintln!("agent not running, and it has never written a status");
            return Ok(Exit::Unknown);
        }
        Ok(None) => {
            let detail = format!("'{}' does not exist", place.layout.floor().display());
            complain(&Refusal::new(Code::StateMissing, detail).into());
            return Ok(Exit::Unknown);
        }
        Err(error) => {
            complain(&error);
            return Ok(Exit::Unknown);
        }
    };
    let now = Timestamp::now();
    if args.json {
        let mut text = serde_json::to_string_pretty(&shown.status)?;
        text.push('\n');
        output::print(&text)?;
        if !shown.live {
            eprintln!("{}", screen::not_running(&shown.status, now));
        }
    } else {
        output::print(&render(&shown, now, Paint::of(&std::io::stdout())))?;
    }
    Ok(if shown.live {
        exit(&shown.status, now)
    } else {
        Exit::Unknown
    })
}

/// The status, from the running agent or, without one, from its file.
pub(super) fn read(place: &Place) -> anyhow::Result<Option<Shown>> {
    match socket::ask(&place.layout.agent_socket(), &Request::Status {})? {
        Some(Answer::Status(status)) => Ok(Some(Shown {
            status: *status,
            live: true,
        })),
        Some(other) => bail!("the agent answered something else: {other:?}"),
        None => {
            let Ok(bytes) = std::fs::read(place.layout.status()) else {
                return Ok(None);
            };
            let path = place.layout.status();
            let status =
                durable::parse(&bytes).map_err(|why| why.refuse(&path, Code::StateUnsafe))?;
            Ok(Some(Shown {
                status,
                live: false,
            }))
        }
    }
}

/// What the status comes to.
pub(super) fn exit(status: &Status, now: Timestamp) -> Exit {
    if status.is_well(now) {
        Exit::Well
    } else {
        Exit::NotWell
    }
}
