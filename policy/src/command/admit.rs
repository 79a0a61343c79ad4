//! stub
#![allow(clippy::todo)]
use super::Exit;
use clap::Args;

/// Stub.
#[derive(Debug, Args)]
pub(super) struct AdmitArgs {}

pub(super) fn run(_args: &AdmitArgs) -> anyhow::Result<Exit> {
    todo!()
}
