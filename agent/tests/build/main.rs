//! Sources of real git, fetched by the real worker, built in the real sandbox.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod host;

mod bounds;
mod cache;
mod confined;
mod release;
mod source;
