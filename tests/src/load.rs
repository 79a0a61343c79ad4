//! An open-loop load: requests leave when their time has come, whether or not earlier ones have been answered, so a
//! stall shows as latency and is not hidden by waiting. No request is ever sent twice; every failure is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

/// The time for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// `http://HOST:PORT/PATH`.
    pub url: Uri,
    /// POST sends a body with the request's number, which the answer must repeat; other methods send none.
    pub method: Method,
    /// Connections that are kept alive.
    pub connections: usize,
    /// Requests per second, over all connections.
    pub rate: u32,
    /// Requests in all.
    pub requests: u64,
    /// The response header whose values are counted.
    pub header: HeaderName,
    /// Ends the load before its last request, as soon as it is true.
    pub stop: Arc<AtomicBool>,
}

impl Load {
    /// 50 connections that POST 2,000 times a second to `url`; counts `writ-release`.
    pub fn post(url: Uri, requests: u64) -> Self {
        Self {
            url,
            method: Method::POST,
            connections: 50,
            rate: 2000,
            requests,
            header: HeaderName::from_static("writ-release"),
            stop: Arc::default(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests that were due, all of which were sent or failed.
    pub sent: u64,
    /// Requests with a whole, right answer.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Why the first five failed.
    pub failures: Vec<String>,
    /// Answers by the value of the header that was asked for.
    pub seen: BTreeMap<String, u64>,
    /// From the time a request was due to the end of its answer, sorted.
    latencies: Vec<Duration>,
}

impl Report {
    /// The latency below which `percent` of the good answers came.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (self.latencies.len() * percent / 100).min(last);
        self.latencies.get(index).copied().unwrap_or_default()
    }

    /// The report as JSON; latencies in milliseconds.
    pub fn to_json(&self) -> serde_json::Value {
        let milliseconds = |percent| self.percentile(percent).as_secs_f64() * 1000.0;
        serde_json::json!({
            "sent": self.sent,
            "ok": self.ok,
            "failed": self.failed,
            "failures": self.failures,
            "seen": self.seen,
            "p50_ms": milliseconds(50),
            "p99_ms": milliseconds(99),
            "max_ms": milliseconds(100),
        })
    }

    fn add(&mut self, due: Instant, result: anyhow::Result<Option<String>>) {
        self.sent += 1;
        match result {
            Ok(seen) => {
                self.ok += 1;
                self.latencies.push(due.elapsed());
                *self.seen.entry(seen.unwrap_or_default()).or_default() += 1;
            }
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < 5 {
                    self.failures.push(format!("{error:#}"));
                }
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(5);
        for (value, count) in other.seen {
            *self.seen.entry(value).or_default() += count;
        }
        self.latencies.extend(other.latencies);
    }
}

/// Sends the load to its end, or until it is stopped, and waits for every answer.
pub async fn run(load: Load) -> anyhow::Result<Report> {
    let (clock, due) = mpsc::unbounded_channel();
    let due = Arc::new(Mutex::new(due));
    let (rate, requests, stop) = (load.rate, load.requests, load.stop.clone());
    // A thread, because its sleep is exact to tens of microseconds where tokio's timer rounds up to milliseconds.
    std::thread::spawn(move || {
        let start = Instant::now();
        for number in 0..requests {
            let time = start + Duration::from_secs(1).mul_f64(number as f64 / f64::from(rate));
            std::thread::sleep(time.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) || clock.send((number, time)).is_err() {
                return;
            }
        }
    });
    let clients: Vec<_> = (0..load.connections)
        .map(|_| tokio::spawn(client(load.clone(), due.clone())))
        .collect();
    let mut report = Report::default();
    for client in clients {
        report.merge(client.await?);
    }
    report.latencies.sort_unstable();
    Ok(report)
}

/// When the request of a number is due.
type Due = Arc<Mutex<mpsc::UnboundedReceiver<(u64, Instant)>>>;

/// One connection: takes the next request that is due, sends it, reads the answer.
async fn client(load: Load, due: Due) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    loop {
        let next = due.lock().await.recv().await;
        let Some((number, time)) = next else {
            return report;
        };
        let exchange = exchange(&load, &mut connection, number);
        let result = tokio::time::timeout(PATIENCE, exchange).await;
        let result = result.unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}"));
        if result.is_err() {
            connection = None;
        }
        report.add(time, result);
    }
}

type Connection = SendRequest<Full<Bytes>>;

/// One request and its answer; gives the value of the header that is counted.
async fn exchange(
    load: &Load,
    connection: &mut Option<Connection>,
    number: u64,
) -> anyhow::Result<Option<String>> {
    // A connection that the server has closed since the last answer is not used again, as by any client.
    let mut open = match connection.take().filter(|open| !open.is_closed()) {
        Some(open) => open,
        None => connect(&load.url).await.context("connect")?,
    };
    open.ready().await.context("the connection closed")?;
    let id = format!("request-{number:08}");
    let answer = open
        .send_request(request(load, &id)?)
        .await
        .context("send")?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.context("answer")?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    ensure!(
        head.status.is_success(),
        "{}: {}",
        head.status,
        text.trim_end()
    );
    ensure!(
        load.method != Method::POST || text.contains(&id),
        "the answer is not to '{id}': {text:?}"
    );
    *connection = Some(open);
    let seen = head.headers.get(&load.header);
    Ok(seen.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()))
}

fn request(load: &Load, id: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let authority = load.url.authority().context("a URL with a host")?;
    let target = load
        .url
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let request = Request::builder()
        .method(&load.method)
        .uri(target)
        .header(HOST, authority.as_str());
    Ok(if load.method == Method::POST {
        let body = Full::from(id.to_owned());
        request.header(CONTENT_TYPE, "text/plain").body(body)?
    } else {
        request.body(Full::default())?
    })
}

async fn connect(url: &Uri) -> anyhow::Result<Connection> {
    let host = url.host().context("a URL with a host")?;
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (open, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // How it ends shows in the exchange that it carries.
    tokio::spawn(connection);
    Ok(open)
}
