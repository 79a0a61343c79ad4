//! Bodies on their way through: passed on frame by frame, given up when nothing moves.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// Why a body ended early.
pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

/// What hears how a body gets on. It is dropped when the body is done.
pub(super) trait Observer {
    /// A frame passed, or the end was reached.
    fn moved(&self) {}

    /// The next frame has yet to be sent.
    fn waits(&self) {}

    /// The sender failed, or nothing moved for too long.
    fn failed(&self);
}

/// A body that fails when its sender is silent for `limit`. The time in which the receiver is slow does not count.
pub(super) struct Passing<O> {
    inner: Incoming,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    observer: O,
}

impl<O: Observer + Unpin> Passing<O> {
    pub(super) fn new(inner: Incoming, limit: Duration, observer: O) -> Self {
        Self {
            inner,
            limit,
            timer: None,
            waiting: false,
            observer,
        }
    }

    /// Says whether the sender has been silent for too long; to be asked while it is silent.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        if !self.waiting {
            timer.as_mut().reset(Instant::now() + self.limit);
            self.waiting = true;
        }
        timer.as_mut().poll(context)
    }
}

impl<O: Observer + Unpin> Body for Passing<O> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let error = match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Err(error))) => error.into(),
            Poll::Ready(frame) => {
                this.waiting = false;
                this.observer.moved();
                return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
            }
            Poll::Pending => {
                this.observer.waits();
                match this.poll_silence(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => "the sender fell silent".into(),
                }
            }
        };
        this.observer.failed();
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How far a request has got on its way to the slot.
pub(super) struct Progress {
    last: Mutex<Instant>,
    waits: AtomicBool,
    failed: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            waits: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// Says whether it is the client that has to go on.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Says whether the client failed to send its whole request.
    pub(super) fn client_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until nothing has moved for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let due = *self.last.lock().expect("no holder panics") + limit;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

impl Observer for std::sync::Arc<Progress> {
    fn moved(&self) {
        *self.last.lock().expect("no holder panics") = Instant::now();
        self.waits.store(false, Ordering::Relaxed);
    }

    fn waits(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}
