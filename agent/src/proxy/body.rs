//! A client's body on its way through: passed on frame by frame, given up when nothing moves.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::serve::{Upload, Watch};

/// Why a body ended early.
pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

pub(super) const SILENT: &str = "the sender fell silent";

/// A client's body on its way to a slot; what becomes of it is noted in the client's watch.
pub(super) struct Request {
    inner: Incoming,
    watch: Arc<Watch>,
}

impl Request {
    pub(super) fn new(inner: Incoming, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
    }
}

impl Body for Request {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        let upload = match &frame {
            Poll::Ready(Some(Err(_))) => Upload::Broken,
            Poll::Ready(_) => {
                self.watch.moved();
                Upload::Moves
            }
            Poll::Pending => Upload::Waits,
        };
        self.watch.set_upload(upload);
        if frame.is_pending() && self.watch.stalled() {
            return Poll::Ready(Some(Err(SILENT.into())));
        }
        frame.map_err(Error::from)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
