//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {}

pub(super) fn run(_args: &ReleaseArgs) -> anyhow::Result<Exit> {
    todo!()
}
