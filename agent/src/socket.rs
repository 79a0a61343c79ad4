//! What the command line and a running agent say to each other over `agent.sock`: one line of JSON each way, then the
//! connection ends.
//!
//! Root and the agent's own account decide. Whoever else the socket lets in is of its group, which is the agent's, and
//! may look: see [`Request::only_looks`].

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use state::name::ServiceName;
use state::{Code, Refusal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::disk;
use crate::host::Host;
use crate::journal::{Entry, Journal};
use crate::reconcile::Services;
use crate::remotes::exception::Decision;
use crate::service::Ask;
use crate::status::Status;
use crate::user;

/// The longest question, in bytes.
const MAX_REQUEST: u64 = 64 << 10;

/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// The time for a question to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);

/// The time for an answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many connections of accounts that may only look are open at once: they leave descriptors for those that decide.
const GUESTS: usize = 16;

/// A question to the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "request")]
pub enum Request {
    /// How is this host?
    Status {},
    /// What happened?
    History {
        /// To which service; to all if left out.
        service: Option<ServiceName>,
        /// How many entries at most, the newest.
        limit: usize,
    },
    /// An operator's decision.
    Decide {
        /// About which service.
        service: ServiceName,
        /// What.
        decision: Ask,
    },
    /// Let the newest verified admission start though it is stale.
    ApplyStale {
        /// Why.
        reason: String,
        /// For whom `sudo` says that it runs.
        sudo: Option<String>,
    },
    /// End that.
    Lift {
        /// For whom `sudo` says that it runs.
        sudo: Option<String>,
    },
    /// Look at the state repository now.
    Wake {},
}

impl Request {
    /// Says whether an account that may not decide may ask this.
    fn only_looks(&self) -> bool {
        match self {
            Request::Status {} | Request::History { .. } => true,
            Request::Decide { .. }
            | Request::ApplyStale { .. }
            | Request::Lift { .. }
            | Request::Wake {} => false,
        }
    }
}

/// Where decisions about the host are taken, and by whom the answer is awaited.
pub type Decisions = mpsc::Sender<(Decision, oneshot::Sender<Result<String, Refusal>>)>;

/// The agent's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// To `status`.
    Status(Box<Status>),
    /// To `history`, oldest first.
    History(Vec<Entry>),
    /// To `decide` and `wake`: what follows.
    Done(String),
    /// To any.
    Refused(Refusal),
}

/// Asks the agent behind the socket at `path`; `None` if none answers there.
///
/// # Errors
/// What the agent refuses, and `PERMISSION_DENIED` if this account may not ask it.
pub fn ask(path: &Path, request: &Request) -> Result<Option<Answer>, Refusal> {
    let mut stream = match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let detail = format!("'{}': {error}", path.display());
            return Err(Refusal::new(Code::PermissionDenied, detail));
        }
        Err(_) => return Ok(None),
    };
    let mut talk = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = Vec::new();
        (&stream).take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    };
    match talk() {
        Ok(answer) => match serde_json::from_slice(&answer) {
            Ok(Answer::Refused(refusal)) => Err(refusal),
            Ok(answer) => Ok(Some(answer)),
            // It ended meanwhile.
            Err(error) if error.is_eof() => Ok(None),
            Err(error) => {
                let detail = format!("the running agent gave an unknown answer: {error}");
                Err(Refusal::new(Code::Unsupported, detail))
            }
        },
        Err(error) => {
            tracing::warn!(%error, "the agent does not answer on '{}'", path.display());
            Ok(None)
        }
    }
}

/// Opens the socket at `path`, in place of one that a dead agent left; the caller holds the agent's lock.
pub fn open(path: &Path) -> Result<UnixListener, Refusal> {
    let failed = |error: io::Error| disk::failed(path, &error);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Answers questions until the caller drops this.
pub async fn serve(
    listener: UnixListener,
    host: Arc<Host>,
    services: Arc<Services>,
    wake: Arc<Notify>,
    decisions: Decisions,
) {
    let guests = Arc::new(Semaphore::new(GUESTS));
    loop {
        let asked = listener.accept().await.and_then(|(stream, _)| {
            let user = stream.peer_cred()?.uid();
            Ok((stream, user))
        });
        let (stream, user) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the agent's socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        // Held by the conversation to its end.
        let seat = match decides(user) {
            true => None,
            false => match Arc::clone(&guests).try_acquire_owned() {
                Ok(seat) => Some(seat),
                Err(_) => continue,
            },
        };
        let (host, services, wake) = (Arc::clone(&host), Arc::clone(&services), Arc::clone(&wake));
        let decisions = decisions.clone();
        tokio::spawn(async move {
            let _seat = seat;
            let talk = converse(stream, user, &host, &services, &wake, &decisions);
            match tokio::time::timeout(DEADLINE, talk).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a conversation ended early"),
                Err(_) => tracing::debug!("a conversation took too long"),
            }
        });
    }
}

/// Says whether an account may decide, and not only look.
fn decides(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

async fn converse(
    stream: UnixStream,
    user: u32,
    host: &Host,
    services: &Services,
    wake: &Notify,
    decisions: &Decisions,
) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reading = BufReader::new(reading.take(MAX_REQUEST));
    tokio::time::timeout(ARRIVAL, reading.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) if !decides(user) && !request.only_looks() => {
            let detail = format!("{} may look and not decide", user::who(user, None));
            Answer::Refused(Refusal::new(Code::PermissionDenied, detail))
        }
        Ok(Request::ApplyStale { reason, sudo }) => {
            let user = user::who(user, sudo.as_deref());
            decide(decisions, Decision::ApplyStale { reason, user }).await
        }
        Ok(Request::Lift { sudo }) => {
            let user = user::who(user, sudo.as_deref());
            decide(decisions, Decision::Lift { user }).await
        }
        Ok(request) => answer(request, host, services, wake).await,
        Err(error) => {
            let detail = format!("a question that this agent does not know: {error}");
            Answer::Refused(Refusal::new(Code::Unsupported, detail))
        }
    };
    writing.write_all(&serde_json::to_vec(&answer)?).await
}

async fn answer(request: Request, host: &Host, services: &Services, wake: &Notify) -> Answer {
    match request {
        Request::Status {} => Answer::Status(Box::new(host.board.read())),
        Request::History { service, limit } => {
            let journal = Arc::clone(&host.journal);
            let read = move || history(&journal, service.as_ref(), limit);
            let read = tokio::task::spawn_blocking(read).await;
            read.unwrap_or_else(|error| {
                Answer::Refused(Refusal::new(Code::Interrupted, error.to_string()))
            })
        }
        Request::Decide { service, decision } => match services.ask(&service, decision).await {
            Ok(text) => Answer::Done(text),
            Err(refusal) => Answer::Refused(refusal),
        },
        Request::ApplyStale { .. } | Request::Lift { .. } => {
            let detail = "it needs to be known who asks";
            Answer::Refused(Refusal::new(Code::Unsupported, detail))
        }
        Request::Wake {} => {
            wake.notify_one();
            Answer::Done("looks at the state repository".to_owned())
        }
    }
}

/// Has the pass take a decision about the host, between two looks.
async fn decide(decisions: &Decisions, decision: Decision) -> Answer {
    let (answer, answered) = oneshot::channel();
    let gone = || Answer::Refused(Refusal::new(Code::Interrupted, "the agent ends"));
    if decisions.send((decision, answer)).await.is_err() {
        return gone();
    }
    match answered.await {
        Ok(Ok(said)) => Answer::Done(said),
        Ok(Err(refusal)) => Answer::Refused(refusal),
        Err(_) => gone(),
    }
}

/// The newest entries of the journal. Blocks.
pub fn history(journal: &Journal, service: Option<&ServiceName>, limit: usize) -> Answer {
    let entries = journal.recent(service, limit);
    entries.map_or_else(Answer::Refused, Answer::History)
}
