//! Makes it so on this host: fetches what was admitted, believes only what verifies, builds it, tests it, swaps it
//! in without dropping a request, watches it, and goes back by itself when it is not well.
//!
//! The modules stand in the order in which a change meets them; [`reconcile`] alone calls the stages.

pub mod command;
pub mod output;
pub mod socket;

pub mod config;
mod fs;
pub mod layout;
pub mod lock;
mod privilege;
pub mod user;

pub mod disk;
pub mod journal;
pub mod record;
pub mod status;

pub mod accounts;
pub mod host;
pub mod ports;
pub mod progress;

pub mod deployment;
pub mod slot;
pub mod transition;
pub mod wait;

pub mod accepted;
pub mod evidence;
pub mod fetch;
pub mod glass;
pub mod intake;
pub mod mirror;
pub mod plan;
pub mod shift;
pub mod verify;

pub mod source;

pub mod build;
mod meter;
pub mod sandbox;

pub mod check;
pub mod runner;
mod serve;
mod spawn;
pub mod static_site;

pub mod deploy;
pub mod observe;
pub mod retire;
pub mod start;

pub mod files;

mod adopt;
pub mod daemon;
mod housekeeping;
pub mod reconcile;
pub mod service_task;
mod settings;

pub mod route;
pub mod traffic;

pub mod proxy;
