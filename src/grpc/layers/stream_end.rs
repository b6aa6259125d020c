//! The end of a stream that does not end by itself: at its deadline, or, for health and reflection, which know nothing of it,
//! when the server goes away. The services of the contract end their own streams.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use super::{deadline::poll_deadline, tool_streams::ToolStream};
use crate::error::{Error, Reason};

/// A response's body that may be ended from outside.
#[derive(Debug, Default)]
pub struct StreamEnd<B> {
    body: B,
    ends: Option<Box<Ends>>,
}

struct Ends {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Held for as long as the stream.
    _tool: Option<ToolStream>,
    done: bool,
}

impl<B> StreamEnd<B> {
    /// Ends `body` at `deadline`, and that of a tool when the server goes away, whichever there is and comes first.
    pub(super) fn new(body: B, deadline: Option<Instant>, tool: Option<ToolStream>) -> Self {
        let ends = (deadline.is_some() || tool.is_some()).then(|| {
            Box::new(Ends {
                deadline,
                sleep: None,
                draining: tool
                    .as_ref()
                    .map(|tool| Box::pin(tool.draining.clone().cancelled_owned())),
                _tool: tool,
                done: false,
            })
        });
        Self { body, ends }
    }

    /// Leaves `body` alone.
    pub(super) fn none(body: B) -> Self {
        Self { body, ends: None }
    }
}

impl Ends {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if poll_deadline(&mut self.sleep, self.deadline, cx).is_ready() {
            let message = "the stream has lasted as long as it may";
            return Poll::Ready(Error::new(Reason::DeadlineExceeded, message));
        }
        match &mut self.draining {
            Some(draining) => draining
                .as_mut()
                .poll(cx)
                .map(|()| Error::new(Reason::Draining, "the server is going away")),
            None => Poll::Pending,
        }
    }
}

impl<B: Body + Unpin> Body for StreamEnd<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let Some(ends) = &mut this.ends else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        if ends.done {
            return Poll::Ready(None);
        }
        // The end goes before the next message, or a stream that always has one would never end.
        if let Poll::Ready(error) = ends.poll_end(cx) {
            ends.done = true;
            let mut trailers = http::HeaderMap::new();
            let _fits = Status::from(error).add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.ends {
            Some(ends) => ends.done || self.body.is_end_stream(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.ends {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
