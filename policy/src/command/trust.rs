//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct TrustArgs {}

pub(super) fn run(_args: &TrustArgs) -> anyhow::Result<Exit> {
    todo!()
}
