//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {}

pub(super) fn run(_args: &CheckArgs) -> anyhow::Result<Exit> {
    todo!()
}
