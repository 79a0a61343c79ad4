//! How one connection gets on: one timer for its whole life, instead of one for each thing that may take too long.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// When something last moved on a connection, and what it waits for. Only the connection's own task writes, as a rule.
pub(crate) struct Watch {
    begun: Instant,
    /// Milliseconds since `begun`.
    moved: AtomicU64,
    busy: AtomicBool,
    blocked: AtomicBool,
    stalled: AtomicBool,
    upload: AtomicU8,
}

/// How far the body of a request has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Upload {
    /// It moves, or is complete.
    Moves,
    /// The client has to go on.
    Waits,
    /// What the client sent is no body, or ends too early.
    Broken,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            moved: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            upload: AtomicU8::new(Upload::Moves as u8),
        }
    }

    /// Notes that something moved.
    pub(crate) fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// Says whether nothing has moved for too long in the request in progress. Whoever polls a part of it is polled
    /// again when this becomes true.
    pub(crate) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(crate) fn set_upload(&self, upload: Upload) {
        self.upload.store(upload as u8, Ordering::Relaxed);
    }

    pub(crate) fn upload_is(&self, upload: Upload) -> bool {
        self.upload.load(Ordering::Relaxed) == upload as u8
    }

    /// Waits until the client has not taken what is written to it for `limit`.
    pub(crate) async fn blocked_for(&self, limit: Duration) {
        loop {
            let due = self.due(limit);
            if due <= Instant::now() && self.blocked.load(Ordering::Relaxed) {
                return;
            }
            sleep_until(due.max(Instant::now() + limit / 2)).await;
        }
    }

    pub(super) fn begin(&self) {
        self.moved();
        self.set_upload(Upload::Moves);
        self.stalled.store(false, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.moved();
        self.busy.store(false, Ordering::Relaxed);
    }

    /// Waits until the connection is no longer worth keeping: no whole head within `head`, or a client that takes
    /// nothing for `idle`. A request in which nothing moves for `idle` is only marked, so that it can be answered.
    pub(super) async fn expired(&self, head: Duration, idle: Duration) {
        let mut timer = pin!(sleep_until(self.begun + head.min(idle)));
        loop {
            timer.as_mut().await;
            let now = Instant::now();
            let (blocked, busy) = (&self.blocked, &self.busy);
            let next = if blocked.load(Ordering::Relaxed) {
                self.due(idle)
            } else if busy.load(Ordering::Relaxed) {
                // The request may end before that, and the next head is given less time.
                let soon = now + head / 2;
                let due = self.due(idle);
                if due <= now {
                    self.stalled.store(true, Ordering::Relaxed);
                    soon
                } else {
                    due.min(soon)
                }
            } else {
                self.due(head)
            };
            if next <= now {
                return;
            }
            timer.as_mut().reset(next);
        }
    }

    fn due(&self, limit: Duration) -> Instant {
        self.begun + Duration::from_millis(self.moved.load(Ordering::Relaxed)) + limit
    }

    fn now(&self) -> u64 {
        let passed = self.begun.elapsed();
        passed.as_secs() * 1000 + u64::from(passed.subsec_millis())
    }
}

/// A connection whose writes are watched.
pub(super) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self { stream, watch }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.watch
            .blocked
            .store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.watch.moved();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
