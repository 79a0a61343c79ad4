//! Connections to one slot, kept alive between requests.
//!
//! A request is sent again only if it provably was not sent: hyper gives back, head and body untouched, what it had
//! not begun to write when a kept connection turned out to be closed. Anything else may have had an effect.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::body::{Passing, Progress};
use super::limit::{HEAD_BYTES, Limits};
use crate::route::Address;

/// The body of a request to a slot.
pub(super) type RequestBody = Passing<Arc<Progress>>;

/// Why a slot gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// No connection, or none that took the request: it was not sent.
    #[error("cannot connect to {address}")]
    Connect {
        /// The slot's address.
        address: Address,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request was sent, at least in part.
    #[error("no answer")]
    Lost(#[source] hyper::Error),
}

/// The connections to one slot.
pub(super) struct Pool {
    address: Address,
    limits: Limits,
    idle: Mutex<Vec<Idle>>,
}

/// A connection between two requests.
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(address: Address, limits: Limits) -> Self {
        Self {
            address,
            limits,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sends a request over a kept connection, or over a new one if there is none that is still open.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        while let Some(mut sender) = self.take() {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Lost(error.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        match sender.try_send_request(request).await {
            Ok(response) => {
                self.keep(sender);
                Ok(response)
            }
            Err(error) if error.message().is_some() => Err(self.refused(error.into_error())),
            Err(error) => Err(SendError::Lost(error.into_error())),
        }
    }

    /// Takes the connection that was used last, so that those which are not needed grow old.
    fn take(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.lock().expect("no holder panics");
        while let Some(connection) = idle.pop() {
            if connection.sender.is_ready() && connection.since.elapsed() < self.limits.pool {
                return Some(connection.sender);
            }
        }
        None
    }

    /// Keeps a connection, once the answer in progress has been read to its end.
    fn keep(self: &Arc<Self>, mut sender: SendRequest<RequestBody>) {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            if sender.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                pool.idle.lock().expect("no holder panics").push(Idle {
                    sender,
                    since: Instant::now(),
                });
            }
        });
    }

    /// Closes the connections that have not been used for long.
    pub(super) fn expire(&self) {
        self.idle
            .lock()
            .expect("no holder panics")
            .retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.limits.pool);
    }

    async fn connect(&self) -> Result<SendRequest<RequestBody>, SendError> {
        let connecting = async {
            match &self.address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address)
                        .await
                        .map_err(|error| self.refused(error))?;
                    // A request's head and body are two writes: do not hold the second back.
                    stream
                        .set_nodelay(true)
                        .map_err(|error| self.refused(error))?;
                    self.handshake(TokioIo::new(stream)).await
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path)
                        .await
                        .map_err(|error| self.refused(error))?;
                    self.handshake(TokioIo::new(stream)).await
                }
            }
        };
        timeout(self.limits.connect, connecting)
            .await
            .map_err(|elapsed| self.refused(elapsed))?
    }

    async fn handshake<T>(&self, io: T) -> Result<SendRequest<RequestBody>, SendError>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES)
            .handshake(io)
            .await
            .map_err(|error| self.refused(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = %error, "connection to a slot failed");
            }
        });
        Ok(sender)
    }

    fn refused(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SendError {
        SendError::Connect {
            address: self.address.clone(),
            source: source.into(),
        }
    }
}
