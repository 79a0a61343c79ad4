//! A slot's answer on its way through: passed on frame by frame, given up when nothing moves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::{Error, Request, SILENT};
use super::pool::{Link, Pool};
use super::service::Claim;
use crate::serve::Watch;

/// A slot's body on its way to the client. It drives the connection to the slot, which goes back to its pool at the
/// end, and it holds the claim: the request is in flight until the body has been read from the slot.
pub(super) struct Answer {
    inner: Incoming,
    link: Option<Link<Request>>,
    pool: Arc<Pool<Request>>,
    watch: Arc<Watch>,
    claim: Claim,
    /// Why the slot failed, until what came before has been written to the client.
    failure: Option<Error>,
}

impl Answer {
    pub(super) fn new(
        inner: Incoming,
        link: Link<Request>,
        watch: Arc<Watch>,
        claim: Claim,
    ) -> Self {
        watch.moved();
        Self {
            inner,
            link: Some(link),
            pool: claim.target.pool.clone(),
            watch,
            claim,
            failure: None,
        }
    }

    fn poll_slot(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        match &mut self.link {
            Some(link) if frame.is_pending() => {
                link.drive(context);
                Pin::new(&mut self.inner).poll_frame(context)
            }
            _ => frame,
        }
    }

    /// Notes that the slot failed and has the client see how far it got, before the connection breaks off.
    fn failed(&mut self, error: Error, context: &Context<'_>) {
        self.claim.target.lost.fetch_add(1, Ordering::Relaxed);
        self.failure = Some(error);
        context.waker().wake_by_ref();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Some(error) = this.failure.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match this.poll_slot(context) {
            Poll::Ready(Some(Err(error))) => this.failed(error.into(), context),
            Poll::Ready(frame) => {
                this.watch.moved();
                return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
            }
            Poll::Pending if this.watch.stalled() => this.failed(SILENT.into(), context),
            Poll::Pending => {}
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A connection in the middle of an answer that nobody wants any more is of no use.
        if let Some(link) = self.link.take().filter(|_| self.inner.is_end_stream()) {
            self.pool.keep(link);
        }
    }
}
