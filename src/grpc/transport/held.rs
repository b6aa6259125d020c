//! Lets a connection know how many of its calls are open.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use http_body::{Body, Frame, SizeHint};

/// A call under way.
#[derive(Debug)]
pub(super) struct Holding<F> {
    call: F,
    open: Option<Arc<()>>,
}

impl<F> Holding<F> {
    pub(super) fn new(call: F, open: Arc<()>) -> Self {
        Self {
            call,
            open: Some(open),
        }
    }
}

impl<F, B> Future for Holding<F>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
{
    type Output = Result<Response<Held<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.call).poll(cx);
        polled.map_ok(|response| {
            response.map(|body| Held {
                body,
                _open: self.open.take(),
            })
        })
    }
}

/// The body of its response.
#[derive(Debug)]
pub(super) struct Held<B> {
    body: B,
    _open: Option<Arc<()>>,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
