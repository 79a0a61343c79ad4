//! The driver of Writ's own proxy: writes the durable table, tells the proxy over `proxy.sock`, reads back what it
//! serves. The proxy is a process of its own and outlives the agent; see [`ensure_running`].

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use state::durable::Format;
use state::name::ServiceName;
use state::refusal::{Code, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::proxy::protocol::{Answer, Can, Counters, DEADLINE, MAX_LINE, Observed, Pong, Request};
use crate::slot::Slot;
use crate::traffic::table::RouteTable;

/// A client of the proxy's control socket.
#[derive(Clone, Debug)]
pub struct Embedded {
    socket: PathBuf,
    routes: PathBuf,
}

impl Embedded {
    /// Speaks to the proxy on `socket`, whose tables are the files in `routes`.
    pub fn new(socket: impl Into<PathBuf>, routes: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            routes: routes.into(),
        }
    }

    /// Asks whether the proxy lives.
    pub async fn ping(&self) -> Result<Pong, Refusal> {
        match self.ask(&Request::Ping {}).await? {
            Answer::Pong(pong) => Ok(pong),
            other => Err(unexpected(other)),
        }
    }

    /// Writes the table's file, has the proxy serve it, and reads its generation back.
    ///
    /// The table keeps what a newer version noted in the file, and says no more than the proxy can read.
    /// When this returns, a slot of weight 0 gets no new request. A table that the proxy refuses (`LISTEN_IN_USE`,
    /// `LISTEN_REFUSED`, `GENERATION_STALE`) leaves file and proxy as they were. If the proxy does not answer
    /// (`PROXY_UNAVAILABLE`), the file stays: a proxy that starts serves it.
    pub async fn apply(&self, table: &RouteTable) -> Result<Observed, Refusal> {
        let before = RouteTable::load(&self.routes, &table.service);
        let mut table = table.clone();
        if let Ok(Some(before)) = &before {
            table.keep_extra(before);
        }
        fit(&mut table, &self.can().await)?;
        table.save(&self.routes)?;
        let service = table.service.clone();
        let observed = match self.ask(&Request::Apply { service }).await {
            Ok(Answer::Serving(observed)) => observed,
            Ok(Answer::Refused(refusal)) => {
                match before {
                    Ok(Some(before)) => before.save(&self.routes)?,
                    // A damaged file is no better than none.
                    Ok(None) | Err(_) => RouteTable::remove(&self.routes, &table.service)?,
                }
                return Err(refusal);
            }
            Ok(other) => return Err(unexpected(other)),
            Err(refusal) => return Err(refusal),
        };
        if observed.generation == table.generation {
            Ok(observed)
        } else {
            let (got, expected) = (observed.generation, table.generation);
            Err(Refusal::new(
                Code::ProxyUnavailable,
                format!("the proxy serves generation {got}, expected {expected}"),
            ))
        }
    }

    /// What the proxy can do. One that does not answer may be replaced by any version: that reads the first format.
    async fn can(&self) -> Can {
        let unanswered = |_| Can {
            format: Format::FIRST,
            ..Can::now()
        };
        self.ping().await.map_or_else(unanswered, |pong| pong.can)
    }

    /// What the proxy serves for `service`, with its counters; `None` if it does not serve it.
    pub async fn observe(&self, service: &ServiceName) -> Result<Option<Observed>, Refusal> {
        let service = service.clone();
        match self.ask(&Request::Observe { service }).await? {
            Answer::Serving(observed) => Ok(Some(observed)),
            Answer::Absent => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// What happened at `slot` since it appeared at its address; all zero if it is not served.
    pub async fn sample(&self, service: &ServiceName, slot: Slot) -> Result<Counters, Refusal> {
        let observed = self.observe(service).await?;
        let slot = observed.and_then(|mut observed| observed.slots.remove(&slot));
        Ok(slot.map(|slot| slot.counters).unwrap_or_default())
    }

    /// Waits until no request is in flight at `slot`, at most for `limit`; returns how many remain.
    ///
    /// The slot's weight must be 0 already.
    pub async fn drain(
        &self,
        service: &ServiceName,
        slot: Slot,
        limit: Duration,
    ) -> Result<u64, Refusal> {
        let deadline = Instant::now() + limit;
        loop {
            let remaining = self.sample(service, slot).await?.in_flight;
            if remaining == 0 || Instant::now() >= deadline {
                return Ok(remaining);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes the table's file and stops listening for `service`.
    pub async fn remove(&self, service: &ServiceName) -> Result<(), Refusal> {
        RouteTable::remove(&self.routes, service)?;
        let service = service.clone();
        match self.ask(&Request::Remove { service }).await? {
            Answer::Absent => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer, Refusal> {
        let unavailable = |detail: String| {
            let refusal = Refusal::new(Code::ProxyUnavailable, detail);
            refusal.at(self.socket.display())
        };
        let mut line =
            serde_json::to_vec(request).map_err(|error| unavailable(error.to_string()))?;
        line.push(b'\n');
        let talk = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(&line).await?;
            let mut answer = Vec::new();
            stream.take(MAX_LINE).read_to_end(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(DEADLINE, talk)
            .await
            .map_err(|_| unavailable(format!("no answer within {DEADLINE:?}")))?
            .map_err(|error| unavailable(error.to_string()))?;
        serde_json::from_slice(&answer)
            .map_err(|error| unavailable(format!("an unknown answer: {error}")))
    }
}

/// Writes `table` so that a proxy which can only do that reads it.
///
/// # Errors
/// `PROXY_UNAVAILABLE` if it says what such a proxy cannot do.
fn fit(table: &mut RouteTable, can: &Can) -> Result<(), Refusal> {
    table.format = Format::current().min(can.format);
    if !can.unknown_fields {
        table.drop_extra();
        if !table.trust.is_empty() {
            let detail = "the proxy that runs is of an earlier version, which has no `traffic.trust`: restart it";
            return Err(Refusal::new(Code::ProxyUnavailable, detail));
        }
    }
    Ok(())
}

/// A refusal is passed on; any other answer does not belong to the question.
fn unexpected(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => Refusal::new(
            Code::ProxyUnavailable,
            format!("the proxy answered something else: {other:?}"),
        ),
    }
}

/// Starts `program` with `arguments` as a proxy that outlives the caller, its output appended to `log`, unless one
/// answers already. Returns once it answers, within `limit`.
pub async fn ensure_running<S: AsRef<OsStr>>(
    driver: &Embedded,
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
    log: &Path,
    limit: Duration,
) -> Result<Pong, Refusal> {
    if let Ok(pong) = driver.ping().await {
        return Ok(pong);
    }
    let mut child = spawn(program, arguments, log).map_err(|error| {
        let refusal = Refusal::new(Code::ProxyUnavailable, error.to_string());
        refusal.at(program.display())
    })?;
    let deadline = Instant::now() + limit;
    loop {
        // Asked before the ping: a proxy that ended because another one had come first is no failure.
        let ended = child.try_wait().ok().flatten();
        match driver.ping().await {
            Ok(pong) => return Ok(pong),
            Err(refusal) if Instant::now() >= deadline => return Err(refusal),
            Err(refusal) => {
                if let Some(status) = ended {
                    let what = format!("the proxy ended ({status}), see {}", log.display());
                    return Err(refusal.at(what));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn spawn<S: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
    log: &Path,
) -> io::Result<Child> {
    let mut options = OpenOptions::new();
    let log = options.create(true).append(true).mode(0o640).open(log)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}
