//! Bounds what is held for clients that do not take what they asked for: one may ask for much on every stream that it may open,
//! and read none of it.
//!
//! A unary answer counts by its size from when it is made until its last byte is sent or given up, in all and by the address that
//! asked. Where there is no room for it, a call that only reads is answered RESOURCE_EXHAUSTED instead; what changed something is
//! answered all the same, since nobody could ask for that again. A small answer does not count, as most do not.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body, codegen::Bytes};
use tower::Service;

use super::context::CallContext;
use crate::{
    connections::{Seats, seats::Seat},
    error::{Error, Reason},
    grpc::methods::Shape,
    telemetry::metrics as names,
};

/// An answer of up to so many bytes does not count.
const SMALL: usize = 4 * 1024;
/// Bytes of all answers together.
const IN_ALL: usize = 256 * 1024 * 1024;
/// Bytes of the answers to one address.
const OF_ONE: usize = 64 * 1024 * 1024;

/// See the module.
#[derive(Debug, Clone)]
pub struct Unread<S> {
    inner: S,
    bytes: Seats<IpAddr>,
}

impl<S> Unread<S> {
    pub(super) fn new(inner: S) -> Self {
        let gauge = metrics::gauge!(names::UNREAD_BYTES);
        Self {
            inner,
            bytes: Seats::new(IN_ALL, OF_ONE, gauge),
        }
    }
}

impl<S, B> Service<Request<B>> for Unread<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let unary = CallContext::of(request.extensions())
            .filter(|context| context.method.shape() == Shape::Unary);
        let reader = unary.map(|context| Reader {
            network: context.client.network(),
            may_ask_again: context.method.reads(),
        });
        Answering {
            call: self.inner.call(request),
            reader,
            bytes: self.bytes.clone(),
        }
    }
}

/// Who is to read the answer.
#[derive(Debug)]
struct Reader {
    network: IpAddr,
    may_ask_again: bool,
}

/// A call under way.
#[derive(Debug)]
pub struct Answering<F> {
    call: F,
    reader: Option<Reader>,
    bytes: Seats<IpAddr>,
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.call).poll(cx));
        let Some(reader) = self.reader.take() else {
            return Poll::Ready(Ok(response));
        };
        let (head, mut body) = response.into_parts();
        // A message that is there is written out by this, and its size known.
        let Poll::Ready(Some(Ok(first))) = Pin::new(&mut body).poll_frame(cx) else {
            return Poll::Ready(Ok(Response::from_parts(head, body)));
        };
        let first = match first.into_data() {
            Ok(message) if message.len() > SMALL => match reader.count(&self.bytes, message) {
                Ok(counted) => Frame::data(counted),
                Err(refused) => return Poll::Ready(Ok(refused.into_http())),
            },
            Ok(small) => Frame::data(small),
            Err(trailers) => trailers,
        };
        let first = Some(first);
        let body = Body::new(Answer { first, rest: body });
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

impl Reader {
    /// The message, which counts until nobody holds any of it any more.
    fn count(self, bytes: &Seats<IpAddr>, message: Bytes) -> Result<Bytes, Status> {
        match bytes.take_some(self.network, message.len()) {
            Ok(room) => Ok(Bytes::from_owner(Counted {
                message,
                _room: room,
            })),
            Err(_) if self.may_ask_again => Err(no_room()),
            Err(_) => Ok(message),
        }
    }
}

fn no_room() -> Status {
    let message = "answers that were asked for and not read take all the room there is";
    Error::new(Reason::Overloaded, message)
        .retry_after(Duration::from_secs(1))
        .into()
}

/// A message that counts.
#[derive(Debug)]
struct Counted {
    message: Bytes,
    _room: Seat<IpAddr>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

/// The body of an answer whose first frame is there.
#[derive(Debug)]
struct Answer {
    first: Option<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}
