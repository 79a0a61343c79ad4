//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct RunArgs {}

pub(super) fn run(_args: &RunArgs) -> anyhow::Result<Exit> {
    todo!()
}
