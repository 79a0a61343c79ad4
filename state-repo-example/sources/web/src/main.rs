//! The example service: a small HTTP server, on the standard library alone, for Writ to deploy.
//!
//! It listens where the agent says (`PORT` or `SOCKET`) and names its release in every answer. It needs no
//! signal handling: the agent drains a slot before it stops it.

mod http;
mod server;
mod service;

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use service::Service;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Listens on `SOCKET` if it is set, else on the loopback port `PORT`, and serves until it is killed.
fn run() -> Result<(), String> {
    let service = Arc::new(Service::from_environment()?);
    if let Some(path) = env::var_os("SOCKET") {
        let listener = UnixListener::bind(&path)
            .map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
        println!("{} listens on {}", service.name(), path.display());
        server::serve(listener.incoming(), &service);
    } else {
        let port = env::var("PORT").map_err(|_| "neither PORT nor SOCKET is set".to_string())?;
        let port: u16 = port
            .parse()
            .map_err(|_| format!("PORT is '{port}', expected a number up to 65535"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
        println!("{} listens on port {port}", service.name());
        server::serve(listener.incoming(), &service);
    }
    Ok(())
}
