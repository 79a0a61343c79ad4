//! One attempt to bring one release live: what is decided about it is pure ([`pipeline`], [`record`], [`transition`]), a
//! stage of it a file.

pub mod phase;
pub mod pipeline;
pub mod record;
pub mod transition;

pub mod launch;
pub mod routes;
pub(crate) mod work;

pub(crate) mod stages;

mod abort;
mod bake;
mod build;
mod check;
mod fetch;
pub mod retire;
mod shift;
mod start;
mod test;
