//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct HookArgs {}

pub(super) fn run(_args: &HookArgs) -> anyhow::Result<Exit> {
    todo!()
}
