//! Makes it so on this host: fetches what was admitted, believes only what verifies, builds it, tests it, swaps it
//! in without dropping a request, watches it, and goes back by itself when it is not well.
//!
//! The modules stand in the order in which a change meets them; [`reconcile`] alone calls the stages.

pub mod command;

pub mod config;
pub mod layout;
pub mod lock;
pub mod user;

pub mod disk;
pub mod journal;
pub mod record;

pub mod deployment;
pub mod slot;
pub mod transition;

pub mod plan;
pub mod shift;

mod beneath;
pub mod source;

pub mod build;
pub mod sandbox;

pub mod check;
pub mod runner;
mod spawn;
pub mod static_site;

pub mod route;
pub mod traffic;

pub mod proxy;
