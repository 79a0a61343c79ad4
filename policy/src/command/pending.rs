//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct PendingArgs {}

pub(super) fn run(_args: &PendingArgs) -> anyhow::Result<Exit> {
    todo!()
}
