//! What the end-to-end tests, the benchmarks and the demo share: real programs, started on loopback, ended by pid.
//!
//! Nothing here stands in for a part of Writ. The git server is nginx with `git http-backend`, signatures come from
//! ssh-keygen, and `agent` and `policy` are the binaries that users run.

pub mod attack;
pub mod earned;
pub mod fields;
pub mod fleet;
pub mod fuzz;
pub mod gate;
pub mod host;
pub mod http;
pub mod leftovers;
pub mod load;
pub mod long_log;
pub mod page;
pub mod program;
pub mod server;
pub mod servers;
pub mod signers;
pub mod strace;
pub mod transcript;
pub mod wait;

pub use earned::earn;
