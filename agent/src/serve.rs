//! HTTP/1.1 on one listening socket until told to stop, for the proxy and for static sites. The end is that of a lame
//! duck: no new connection, `Connection: close` on every answer, then idle connections close and what has begun ends.

mod listener;
mod watch;

use std::convert::Infallible;
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub(crate) use listener::{Accepted, Listener, Peer};
pub(crate) use watch::{Upload, Watch};

use watch::Watched;

/// How long a server that stops still answers on open connections, telling each client to close its own.
const LAME_DUCK: Duration = Duration::from_millis(500);

/// The most bytes of a head, and of trailers. (hyper bounds the number of fields to 100.)
pub(crate) const HEAD_BYTES: usize = 32 * 1024;

/// How long and how much a server puts up with. None of it cuts a transfer that still moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The time for a whole request head, and also the time that a kept-alive connection may be idle.
    pub(crate) head: Duration,
    /// The time in which a request or its answer must move on.
    pub(crate) idle: Duration,
    /// Open connections; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// The time in which requests in flight may end when the server stops, after the lame duck's time.
    pub(crate) farewell: Duration,
}

/// What answers the requests.
pub(crate) trait Answer: Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin;
    /// What is kept of a client between its requests.
    type Client: Send + Sync + 'static;

    /// Meets the peer of a new connection.
    fn client(&self, peer: Peer) -> Self::Client;

    /// Answers one request; `watch` says when the client or the answer has been silent for too long.
    fn answer(
        &self,
        client: &Self::Client,
        watch: &Arc<Watch>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// What all connections of one socket share.
struct Server<A> {
    answer: A,
    bounds: Bounds,
    closing: AtomicBool,
    /// Tells idle connections to end; each holds a receiver as long as it lives.
    leave: tokio::sync::watch::Sender<()>,
}

/// Accepts until `stop` is sent, says through what was sent that the socket is closed, and ends with the last
/// connection.
pub(crate) async fn serve<A: Answer>(
    listener: Listener,
    answer: A,
    bounds: Bounds,
    mut stop: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let server = Arc::new(Server {
        answer,
        bounds,
        closing: AtomicBool::new(false),
        leave: tokio::sync::watch::Sender::new(()),
    });
    let places = Arc::new(Semaphore::new(bounds.connections));
    let next = async || {
        let place = places.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        (listener.accept().await, place)
    };
    let closed = loop {
        tokio::select! {
            closed = &mut stop => break closed,
            (accepted, place) = next() => match accepted {
                Accepted::Tcp(stream, peer) => server.clone().spawn(stream, peer, place),
                Accepted::Unix(stream) => server.clone().spawn(stream, None, place),
            },
        }
    };
    drop(listener);
    if let Ok(closed) = closed {
        // Nobody may be waiting any more.
        let _ = closed.send(());
    }
    server.closing.store(true, Ordering::Relaxed);
    tokio::time::sleep(LAME_DUCK).await;
    server.leave.send_replace(());
    let ended = tokio::time::timeout(bounds.farewell, server.leave.closed()).await;
    if ended.is_err() {
        tracing::warn!("connections were cut that did not end in time");
    }
}

impl<A: Answer> Server<A> {
    fn spawn<S>(self: Arc<Self>, stream: S, peer: Peer, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let leave = self.leave.subscribe();
        tokio::spawn(async move {
            self.converse(stream, peer, leave).await;
            drop(place);
        });
    }

    /// Answers the requests of one connection.
    async fn converse<S>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        mut leave: tokio::sync::watch::Receiver<()>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let watch = Arc::new(Watch::new());
        let stream = TokioIo::new(Watched::new(stream, watch.clone()));
        let shared = Arc::new((self.answer.client(peer), watch.clone(), self.clone()));
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move {
                let (client, watch, server) = &*shared;
                let busy = Busy::new(watch.clone());
                let answer = server.answer.answer(client, watch, request).await;
                Ok::<_, Infallible>(server.finish(answer, busy))
            }
        });
        let connection = http1::Builder::new()
            // A client that has sent all it has may say so, and still gets its answer.
            .half_close(true)
            .max_header_size(HEAD_BYTES)
            .serve_connection(stream, service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut expired = pin!(watch.expired(self.bounds.head, self.bounds.idle));
        let mut told = false;
        let ended = loop {
            tokio::select! {
                biased;
                () = expired.as_mut() => break Ok(()),
                _ = leave.changed(), if !told => {
                    connection.as_mut().graceful_shutdown();
                    told = true;
                }
                ended = connection.as_mut() => break ended,
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = ?peer, error = %error, "connection failed");
        }
    }

    /// Has the answer hold the connection for busy until it is sent, and tells the client to leave if need be.
    fn finish(&self, mut answer: Response<A::Body>, busy: Busy) -> Response<Reply<A::Body>> {
        if self.closing.load(Ordering::Relaxed)
            && answer.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        answer.map(|body| Reply { body, _busy: busy })
    }
}

/// A request in progress, from its head to the end of its answer.
struct Busy(Arc<Watch>);

impl Busy {
    fn new(watch: Arc<Watch>) -> Self {
        watch.begin();
        Self(watch)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The body of an answer; the request is in progress as long as it lives.
struct Reply<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for Reply<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
