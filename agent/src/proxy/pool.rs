//! Connections to one slot, kept alive between requests.
//!
//! A connection has no task of its own: whoever uses it drives it, so that a request crosses the proxy without a
//! change of tasks. While it is kept nobody does, and a close is seen when it is taken.
//!
//! A request is sent again only if it provably was not sent: a kept connection that turns out to be closed is left
//! alone, and hyper gives back, head and body untouched, what it had not begun to write. Anything else may have had
//! an effect.

use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body;
use super::limit::Limits;
use crate::fs;
use crate::serve::HEAD_BYTES;
use crate::traffic::table::Address;

/// Why a slot gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// No connection, or none that took the request: it was not sent.
    #[error("cannot connect to {address}")]
    Connect {
        /// The slot's address.
        address: Address,
        #[source]
        source: body::Error,
    },
    /// The request was sent, at least in part.
    #[error("no answer")]
    Lost(#[source] hyper::Error),
}

/// The connections to one slot, for requests with a body of type `B`.
pub(super) struct Pool<B> {
    address: Address,
    limits: Limits,
    idle: Mutex<Vec<Link<B>>>,
}

/// hyper's side of a connection: reads and writes when it is polled.
type Wire = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection and its socket, by which a close is seen before anything is written.
pub(super) struct Link<B> {
    sender: SendRequest<B>,
    wire: Option<Wire>,
    socket: OwnedFd,
    used: Instant,
}

impl<B: Body + 'static> Link<B> {
    /// Says whether the slot has neither closed the connection nor sent what nobody asked for.
    ///
    /// hyper learns of a close only when the runtime comes round to it; a request that is written before would be lost.
    fn is_open(&self) -> bool {
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        self.sender.is_ready() && recv(&self.socket, &mut [0; 1], peek) == Err(Errno::AGAIN)
    }

    /// Reads and writes what can be read and written now.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) {
        let ended = self.wire.as_mut().map(|wire| wire.as_mut().poll(context));
        if let Some(Poll::Ready(ended)) = ended {
            self.wire = None;
            if let Err(error) = ended {
                tracing::debug!(error = %error, "connection to a slot failed");
            }
        }
    }

    /// What is left to drive once the connection has left HTTP.
    pub(super) fn into_wire(self) -> Option<Wire> {
        self.wire
    }

    async fn exchange(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, TrySendError<Request<B>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let wire = &mut self.wire;
        std::future::poll_fn(|context| {
            if let Some(driven) = wire
                && driven.as_mut().poll(context).is_ready()
            {
                // Why it ended is the answer's error.
                *wire = None;
            }
            answer.as_mut().poll(context)
        })
        .await
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes, Error: Into<body::Error>> + Send + Unpin + 'static,
{
    pub(super) fn new(address: Address, limits: Limits) -> Self {
        Self {
            address,
            limits,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sends a request over a kept connection, or over a new one if there is none that is still open. The connection
    /// comes along to be driven while the answer is read, and then to be kept.
    pub(super) async fn send(
        &self,
        mut request: Request<B>,
    ) -> Result<(Response<Incoming>, Link<B>), SendError> {
        while let Some(mut link) = self.take() {
            match link.exchange(request).await {
                Ok(response) => return Ok((response, link)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Lost(error.into_error())),
                },
            }
        }
        let mut link = self.connect().await?;
        match link.exchange(request).await {
            Ok(response) => Ok((response, link)),
            Err(error) if error.message().is_some() => Err(self.refused(error.into_error())),
            Err(error) => Err(SendError::Lost(error.into_error())),
        }
    }

    /// Takes the connection that was used last, so that those which are not needed grow old.
    fn take(&self) -> Option<Link<B>> {
        loop {
            let link = self.idle.lock().expect("no holder panics").pop()?;
            if link.used.elapsed() < self.limits.pool && link.is_open() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(super) fn keep(self: &Arc<Self>, mut link: Link<B>) {
        link.drive(&mut Context::from_waker(Waker::noop()));
        if link.sender.is_ready() {
            self.push(link);
        } else if link.wire.is_some() {
            // The answer came before the whole request had been sent.
            let pool = Arc::downgrade(self);
            tokio::spawn(async move {
                std::future::poll_fn(|context| {
                    link.drive(context);
                    link.sender.poll_ready(context).map(drop)
                })
                .await;
                if let Some(pool) = pool.upgrade() {
                    pool.push(link);
                }
            });
        }
    }

    fn push(&self, mut link: Link<B>) {
        link.used = Instant::now();
        self.idle.lock().expect("no holder panics").push(link);
    }

    /// Closes the connections that have not been used for long, or that the slot has closed.
    pub(super) fn expire(&self) {
        let mut idle = self.idle.lock().expect("no holder panics");
        idle.retain(|link| link.used.elapsed() < self.limits.pool && link.is_open());
    }

    async fn connect(&self) -> Result<Link<B>, SendError> {
        let connecting = async {
            match &self.address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    // A request's head and body are two writes: do not hold the second back.
                    stream.set_nodelay(true)?;
                    self.handshake(stream).await
                }
                Address::Unix(path) => self.handshake(fs::connect(path).await?).await,
            }
        };
        timeout(self.limits.connect, connecting)
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()))
            .map_err(|error| self.refused(error))
    }

    async fn handshake<T>(&self, stream: T) -> Result<Link<B>, body::Error>
    where
        T: AsFd + AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let socket = stream.as_fd().try_clone_to_owned()?;
        let (sender, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Link {
            sender,
            wire: Some(Box::pin(connection.with_upgrades())),
            socket,
            used: Instant::now(),
        })
    }

    fn refused(&self, source: impl Into<body::Error>) -> SendError {
        SendError::Connect {
            address: self.address.clone(),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::sync::mpsc;

    use http_body_util::{BodyExt, Full};
    use hyper::StatusCode;

    use super::*;

    /// Reads a request up to its body "body", and answers it with the number of the connection.
    fn serve_one(stream: &mut TcpStream, number: usize) {
        let mut request = Vec::new();
        while !request.ends_with(b"body") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1);
            request.extend_from_slice(&byte);
        }
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"
        )
        .unwrap();
    }

    fn post() -> Request<Full<Bytes>> {
        let request = Request::post("/").header("host", "a");
        request.body(Full::from("body")).unwrap()
    }

    /// Reads the answer to its end and keeps its connection.
    async fn text(
        pool: &Arc<Pool<Full<Bytes>>>,
        (answer, mut link): (Response<Incoming>, Link<Full<Bytes>>),
    ) -> Bytes {
        let mut body = pin!(answer.into_body().collect());
        let body = std::future::poll_fn(|context| {
            link.drive(context);
            body.as_mut().poll(context)
        });
        let body = body.await.unwrap().to_bytes();
        pool.keep(link);
        body
    }

    // One thread, so that the connection's task cannot learn of the close before the request is handed to it.
    #[tokio::test]
    async fn a_post_that_was_not_sent_goes_over_a_new_connection() {
        let slot = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(slot.local_addr().unwrap());
        let (close, closing) = mpsc::channel();
        let (closed, is_closed) = mpsc::channel();
        let server = std::thread::spawn(move || {
            let (mut first, _) = slot.accept().unwrap();
            serve_one(&mut first, 1);
            closing.recv().unwrap();
            first.shutdown(Shutdown::Both).unwrap();
            closed.send(()).unwrap();
            let (mut second, _) = slot.accept().unwrap();
            serve_one(&mut second, 2);
        });
        let pool = Arc::new(Pool::new(address, Limits::default()));
        assert_eq!(text(&pool, pool.send(post()).await.unwrap()).await, "1");
        close.send(()).unwrap();
        is_closed.recv().unwrap();
        assert!(pool.idle.lock().unwrap()[0].sender.is_ready());
        let answer = pool.send(post()).await.unwrap();
        assert_eq!(answer.0.status(), StatusCode::OK);
        assert_eq!(text(&pool, answer).await, "2");
        server.join().unwrap();
    }

    #[tokio::test]
    async fn a_post_that_was_sent_is_not_sent_again() {
        let slot = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(slot.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut first, _) = slot.accept().unwrap();
            serve_one(&mut first, 1);
            // The second request arrives, and the process dies over it.
            assert_eq!(first.read(&mut [0]).unwrap(), 1);
            drop(first);
            slot.set_nonblocking(true).unwrap();
            slot
        });
        let pool = Arc::new(Pool::new(address, Limits::default()));
        assert_eq!(text(&pool, pool.send(post()).await.unwrap()).await, "1");
        let error = pool.send(post()).await.err().unwrap();
        assert!(matches!(error, SendError::Lost(_)), "{error:?}");
        let again = server.join().unwrap().accept();
        assert!(again.is_err(), "no second connection came");
    }

    #[tokio::test]
    async fn unused_connections_are_closed() {
        let slot = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(slot.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut first, _) = slot.accept().unwrap();
            serve_one(&mut first, 1);
            first.read(&mut [0]).unwrap()
        });
        let limits = Limits {
            pool: std::time::Duration::ZERO,
            ..Limits::default()
        };
        let pool = Arc::new(Pool::new(address, limits));
        assert_eq!(text(&pool, pool.send(post()).await.unwrap()).await, "1");
        while !server.is_finished() {
            pool.expire();
            tokio::task::yield_now().await;
        }
        assert_eq!(server.join().unwrap(), 0, "the slot reads the end");
    }
}
