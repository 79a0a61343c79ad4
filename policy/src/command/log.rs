//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct LogArgs {}

pub(super) fn run(_args: &LogArgs) -> anyhow::Result<Exit> {
    todo!()
}
