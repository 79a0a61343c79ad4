//! The control socket: one question a connection, answered in one line.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use state::durable::Extra;
use state::refusal::{Code, Refusal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::protocol::{Answer, Can, DEADLINE, MAX_LINE, Pong, Request};
use super::registry::Registry;

/// Opens the socket for the owner and the group. Whoever calls holds the lock, so a socket that is there is a dead one.
pub(super) fn open(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(socket)
}

/// Answers for ever.
pub(super) async fn serve(socket: UnixListener, registry: Arc<Registry>) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                let registry = registry.clone();
                tokio::spawn(async move {
                    let talk = tokio::time::timeout(DEADLINE, converse(stream, &registry)).await;
                    if let Err(error) = talk.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                        tracing::warn!(error = %error, "a control connection failed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept control connections");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, registry: &Registry) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    BufReader::new(reader.take(MAX_LINE))
        .read_until(b'\n', &mut line)
        .await?;
    let answer = match serde_json::from_slice(&line) {
        Ok(request) => answer(request, registry).await,
        Err(error) => Answer::Refused(Refusal::new(
            Code::Unsupported,
            format!("the proxy does not know this request: {error}"),
        )),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}

async fn answer(request: Request, registry: &Registry) -> Answer {
    match request {
        Request::Ping {} => Answer::Pong(Pong {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            can: Can::now(),
            extra: Extra::default(),
        }),
        Request::Apply { service } => match registry.apply(&service).await {
            Ok(observed) => {
                tracing::info!(service = %service, generation = observed.generation, "applied");
                Answer::Serving(observed)
            }
            Err(refusal) => Answer::Refused(refusal),
        },
        Request::Observe { service } => {
            let observed = registry.observe(&service).await;
            observed.map_or(Answer::Absent, Answer::Serving)
        }
        Request::Remove { service } => {
            registry.remove(&service).await;
            tracing::info!(service = %service, "removed");
            Answer::Absent
        }
    }
}
