//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {}

pub(super) fn run(_args: &DiffArgs) -> anyhow::Result<Exit> {
    todo!()
}
