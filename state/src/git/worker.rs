//! The resident process that fetches: what a remote sends is received and unpacked under limits, and nothing that it
//! breaks is ours. It lives from pass to pass, so that its connections do.

use std::ffi::OsString;
use std::path::PathBuf;

use super::fetch::{Fetched, Request};
use crate::Refusal;

/// A child process that answers fetch requests, started when first needed and again after it broke.
#[derive(Debug)]
pub struct Worker {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Worker {
    /// Prepares a worker; `program` with `args` must call [`serve`] (`agent fetch-worker`).
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self { program, args }
    }

    /// Has the worker fetch, and waits for its answer. Kills it at the request's deadline.
    ///
    /// # Errors
    /// Those of [`super::fetch::run`]; `FETCH_FAILED` also if the worker cannot be started or dies.
    #[allow(clippy::todo, reason = "being written")]
    pub fn fetch(&mut self, request: &Request) -> Result<Fetched, Refusal> {
        todo!("{:?} {:?} {request:?}", self.program, self.args)
    }
}

/// Answers requests from standard input on standard output until the input ends.
#[allow(clippy::todo, reason = "being written")]
pub fn serve() -> std::io::Result<()> {
    todo!()
}
