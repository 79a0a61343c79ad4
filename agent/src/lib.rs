//! Makes it so on this host: fetches what was admitted, believes only what verifies, builds it, tests it, swaps it
//! in without dropping a request, watches it, and goes back by itself when it is not well.
//!
//! Read it in this order: the pass, what it hears, what each service does with that, and how one release goes live.

pub mod reconcile;
pub mod remotes;
pub mod service;

pub mod deployment;
pub mod releases;

pub mod journal;
pub mod status;

pub mod runner;
pub mod traffic;

pub mod proxy;
mod serve;
pub mod static_site;

pub mod probe;

pub mod build;
mod meter;
pub mod sandbox;
pub mod source;

pub mod accounts;
mod blocking;
pub mod config;
pub mod disk;
pub mod files;
mod fs;
pub mod layout;
pub mod lock;
pub mod ports;
mod privilege;
pub mod progress;
pub mod slot;
mod spawn;
pub mod user;
pub mod wait;

pub mod command;
pub mod daemon;
pub mod host;
mod housekeeping;
pub mod output;
mod settings;
pub mod socket;
