//! Whether a slot is well: startup, identity, readiness, liveness. Each answer is kept as it was given, for the record.

mod exec;
mod http;
pub(crate) mod identity;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use state::digest::ReleaseId;
use state::service::{Check, Health, Identity, Ready, Startup};
use state::text::escape_lines;
use state::{Code, Refusal};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::fs;
use crate::runner::SlotStatus;
use crate::traffic::table::Address;
use crate::user::User;

/// How many bytes of an answer are kept.
const KEPT: usize = 512;
/// How often a slot that starts is asked, and a process that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The time for one answer where the probe says nothing of it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The time to start where the service says nothing of it.
const STARTUP: Duration = Duration::from_secs(60);
/// The time that killing a command may take after its timeout.
const KILLED: Duration = Duration::from_secs(10);

/// The slot that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it listens; a worker does not.
    pub address: Option<Address>,
    /// The release that must answer.
    pub release: ReleaseId,
    /// The release's `app` folder, in which `exec` runs.
    pub app: PathBuf,
    /// The variables of the slot's process, for `exec`.
    pub environment: BTreeMap<String, String>,
    /// The slot's account, for `exec`.
    pub user: Option<User>,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whether it counts as a success.
    pub ok: bool,
    /// What was asked: `GET http://127.0.0.1:20000/health`.
    pub request: String,
    /// What came: the status and the first 512 bytes of the body, escaped, or why there was no answer.
    pub answer: String,
    /// How long it took.
    pub milliseconds: u64,
}

/// A probe that was not passed, with the last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwell {
    /// Why.
    pub refusal: Refusal,
    /// The last question and its answer.
    pub answer: Option<Answer>,
}

/// Asks once.
pub async fn probe(check: &Check, target: &Target, timeout: Duration) -> Answer {
    let begun = Instant::now();
    let request = request(check, target);
    let asked = async {
        match (check, &target.address) {
            (Check::Exec(argv), _) => exec::run(argv, target, timeout).await,
            (_, None) => (false, "the service listens nowhere".into()),
            (Check::Http(path), Some(address)) => match http::get(address, path).await {
                Ok(response) => shown(&response),
                Err(error) => (false, error),
            },
            (Check::Tcp, Some(address)) => match connect(address).await {
                Ok(()) => (true, "accepted".into()),
                Err(error) => (false, error.to_string()),
            },
        }
    };
    // A command has its own timeout, after which it is killed and waited for.
    let limit = timeout
        + if matches!(check, Check::Exec(_)) {
            KILLED
        } else {
            Duration::ZERO
        };
    let late = |_| (false, format!("no answer within {timeout:?}"));
    let (ok, answer) = tokio::time::timeout(limit, asked)
        .await
        .unwrap_or_else(late);
    Answer {
        ok,
        request,
        answer: escape_lines(answer.trim_end()),
        milliseconds: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
    }
}

/// How the question is shown.
fn request(check: &Check, target: &Target) -> String {
    let address = target
        .address
        .as_ref()
        .map_or("-".into(), Address::to_string);
    match (check, &target.address) {
        (Check::Http(path), Some(Address::Tcp(_))) => format!("GET http://{address}{path}"),
        (Check::Http(path), _) => format!("GET {path} at {address}"),
        (Check::Tcp, _) => format!("connect to {address}"),
        (Check::Exec(argv), _) => format!("run {}", argv.join(" ")),
    }
}

/// Judges an answer over HTTP and shows it.
fn shown(response: &http::Response) -> (bool, String) {
    let body = String::from_utf8_lossy(&response.body);
    let ok = (200..400).contains(&response.status.as_u16());
    (ok, format!("{}\n{body}", response.status))
}

async fn connect(address: &Address) -> std::io::Result<()> {
    match address {
        Address::Tcp(address) => TcpStream::connect(address).await.map(drop),
        Address::Unix(path) => fs::connect(path).await.map(drop),
    }
}

/// Asks until it succeeds once. Without a startup probe, waits a minute for the address to accept a connection; a
/// worker, which has none, is taken at its word.
///
/// # Errors
/// `PROCESS_EXITED` as soon as `status` says so, `NOT_READY` when the time is over.
pub async fn wait_startup(
    startup: Option<&Startup>,
    target: &Target,
    status: &(dyn Fn() -> SlotStatus + Sync),
) -> Result<Option<Answer>, Unwell> {
    let (check, within) = match (startup, &target.address) {
        (Some(startup), _) => (&startup.check, startup.within.duration()),
        (None, Some(_)) => (&Check::Tcp, STARTUP),
        (None, None) => return Ok(None),
    };
    let wait = Wait {
        successes: 1,
        every: LOOK,
        timeout: TIMEOUT,
        within,
    };
    wait.until_well(check, target, status).await.map(Some)
}

/// Asks until it succeeds as many times in a row as the probe says.
///
/// # Errors
/// `PROCESS_EXITED` as soon as `status` says so, `NOT_READY` when `within` is over.
pub async fn wait_ready(
    ready: &Ready,
    target: &Target,
    within: Duration,
    status: &(dyn Fn() -> SlotStatus + Sync),
) -> Result<Answer, Unwell> {
    let wait = Wait {
        successes: ready.successes,
        every: ready.probe.every.duration(),
        timeout: ready.probe.timeout.duration(),
        within,
    };
    wait.until_well(&ready.probe.check, target, status).await
}

/// How long and how often is asked.
struct Wait {
    successes: u32,
    every: Duration,
    timeout: Duration,
    within: Duration,
}

impl Wait {
    async fn until_well(
        &self,
        check: &Check,
        target: &Target,
        status: &(dyn Fn() -> SlotStatus + Sync),
    ) -> Result<Answer, Unwell> {
        let deadline = Instant::now() + self.within;
        let mut successes = 0;
        let mut last = None;
        loop {
            if let Some(why) = gone(&status()) {
                let refusal = Refusal::new(Code::ProcessExited, why);
                return Err(Unwell {
                    refusal,
                    answer: last,
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let detail = format!(
                    "{} of {} successes in a row within {:?}",
                    successes, self.successes, self.within
                );
                let refusal = Refusal::new(Code::NotReady, detail);
                return Err(Unwell {
                    refusal,
                    answer: last,
                });
            }
            let answer = probe(check, target, self.timeout.min(left)).await;
            successes = if answer.ok { successes + 1 } else { 0 };
            if successes >= self.successes {
                return Ok(answer);
            }
            // What the deadline cut short says less than the answer before it.
            if last.is_none() || Instant::now() < deadline {
                last = Some(answer);
            }
            self.rest(deadline, status).await;
        }
    }

    /// Waits for the next question, and no longer than the process lives or there is time.
    async fn rest(&self, deadline: Instant, status: &(dyn Fn() -> SlotStatus + Sync)) {
        let next = deadline.min(Instant::now() + self.every);
        while Instant::now() < next && gone(&status()).is_none() {
            sleep(LOOK.min(next - Instant::now())).await;
        }
    }
}

/// Says how the process of a slot ended, if it has.
fn gone(status: &SlotStatus) -> Option<String> {
    match status {
        SlotStatus::Running { .. } => None,
        SlotStatus::Absent => Some("no process runs in the slot".into()),
        SlotStatus::Exited { exit, .. } => Some(format!("the process ended: {exit}")),
    }
}

/// Checks that what listens at the slot's address is a process below `supervisor`, and that it answers with the
/// release's id where `health.identity` asks for it.
///
/// # Errors
/// `IDENTITY_MISMATCH`.
pub async fn identity(health: &Health, target: &Target, supervisor: u32) -> Result<(), Unwell> {
    let Some(address) = &target.address else {
        return Ok(());
    };
    let mismatch = |detail: String, answer| Unwell {
        refusal: Refusal::new(Code::IdentityMismatch, detail),
        answer,
    };
    let owner = tokio::time::timeout(TIMEOUT, identity::check(address, supervisor)).await;
    owner
        .unwrap_or_else(|late| Err(late.to_string()))
        .map_err(|detail| mismatch(detail, None))?;

    let Some(Identity { header }) = &health.identity else {
        return Ok(());
    };
    let path = asked_path(health);
    let answered = tokio::time::timeout(TIMEOUT, http::get(address, path)).await;
    let response = answered
        .unwrap_or_else(|late| Err(late.to_string()))
        .map_err(|detail| mismatch(detail, None))?;
    let got = response
        .headers
        .get(header)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if got.as_deref() == Some(&target.release.to_string()) {
        return Ok(());
    }
    let (ok, text) = shown(&response);
    let got = got.map_or("none".into(), |got| format!("'{got}'"));
    let answer = Answer {
        ok,
        request: request(&Check::Http(path.to_owned()), target),
        answer: escape_lines(&text),
        milliseconds: 0,
    };
    let detail = format!("header '{header}' is {got}, expected '{}'", target.release);
    Err(mismatch(detail, Some(answer)))
}

/// A path that the service answers: one that it is asked for anyway.
fn asked_path(health: &Health) -> &str {
    let ready = health.ready.as_ref().map(|ready| &ready.probe);
    let probes = [ready, health.live.as_ref()]
        .into_iter()
        .flatten()
        .map(|probe| &probe.check);
    let mut checks = health
        .startup
        .iter()
        .map(|startup| &startup.check)
        .chain(probes);
    let path = checks.find_map(|check| match check {
        Check::Http(path) => Some(path.as_str()),
        _ => None,
    });
    path.unwrap_or("/")
}
