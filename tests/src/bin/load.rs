//! Sends an open-loop load and prints one line of JSON; exits with 1 if a request failed.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use hyper::header::HeaderName;
use hyper::{Method, Uri};
use tests::load::{self, Load};
use tokio::signal::unix::{SignalKind, signal};

/// Send requests at a fixed rate, without retries, and count what fails. SIGTERM ends the load early.
#[derive(Parser)]
struct Args {
    /// Where to, as in http://127.0.0.1:8080/echo
    #[arg(long)]
    url: Uri,
    /// Kept-alive connections
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Requests per second
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Requests in all
    #[arg(long, conflicts_with = "seconds", required_unless_present = "seconds")]
    requests: Option<u64>,
    /// For how long
    #[arg(long)]
    seconds: Option<u32>,
    /// POST expects the body back
    #[arg(long, default_value = "POST")]
    method: Method,
    /// The response header whose values are counted
    #[arg(long, default_value = "writ-release")]
    header: HeaderName,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let stop = Arc::<AtomicBool>::default();
    let mut term = signal(SignalKind::terminate())?;
    let asked = stop.clone();
    tokio::spawn(async move {
        term.recv().await;
        asked.store(true, Ordering::Relaxed);
    });
    let seconds = u64::from(args.rate) * u64::from(args.seconds.unwrap_or(0));
    let report = load::run(Load {
        url: args.url,
        method: args.method,
        connections: args.connections,
        rate: args.rate,
        requests: args.requests.unwrap_or(seconds),
        header: args.header,
        stop,
    })
    .await?;
    println!("{}", report.to_json());
    Ok(match report.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
