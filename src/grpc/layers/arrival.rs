//! Begins a call when its request has arrived: a client that announces calls and never sends them keeps nobody out, since it
//! holds no place among those at work. What is larger than most requests ever are begins after its first part, and arrives
//! while its handler reads it, until its time is up. So does what is a stream of messages.
//!
//! What has arrived of requests that are still to begin is bounded, over all connections.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response, request};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use prost::bytes::BytesMut;
use tokio::time::{Instant, Sleep};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, StdError},
};
use tower::Service;

use super::{
    context::CallContext,
    deadline::{exceeded, poll_deadline},
    in_flight::overloaded,
};
use crate::grpc::methods::Shape;

/// How much of a request arrives before it begins, in bytes.
const PART: usize = 64 * 1024;
/// How much may have arrived of all that have not begun, in bytes.
const WAITING_MAX: usize = 128 * 1024 * 1024;

/// See the module.
#[derive(Debug, Clone)]
pub struct Arrivals<S> {
    inner: S,
    cap: Duration,
    room: Room,
}

impl<S> Arrivals<S> {
    pub(super) fn new(inner: S, cap: Duration) -> Self {
        Self {
            inner,
            cap,
            room: Room::default(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for Arrivals<S>
where
    S: Service<Request<Body>, Response = Response<R>, Error = Infallible> + Clone + Unpin,
    S::Future: Unpin,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
    R: Default,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Arriving<S, S::Future, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = CallContext::of(request.extensions());
        let is_one_message =
            context.is_none_or(|context| context.method.shape() != Shape::ClientStream);
        let by = context.and_then(|context| context.deadline);
        if !is_one_message {
            return Arriving::Begun(self.inner.call(request.map(Body::new)));
        }
        let (parts, body) = request.into_parts();
        Arriving::Waiting(Waiting {
            inner: self.inner.clone(),
            parts,
            body,
            arrived: Bytes::new(),
            by: by.unwrap_or_else(|| Instant::now() + self.cap),
            sleep: None,
            space: Space {
                room: self.room.clone(),
                taken: 0,
            },
        })
    }
}

/// A call that arrives or has begun.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "every call is one of these: a box would cost each of them an allocation"
)]
pub enum Arriving<S, F, B> {
    /// Its request has not arrived yet.
    Waiting(Waiting<S, B>),
    /// It is at work.
    Begun(F),
    /// It is answered.
    Answered,
}

impl<S, B, R> Future for Arriving<S, S::Future, B>
where
    S: Service<Request<Body>, Response = Response<R>, Error = Infallible> + Unpin,
    S::Future: Unpin,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
    R: Default,
{
    type Output = Result<Response<R>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Waiting(waiting) = &mut *self {
            let arrived = ready!(waiting.poll_part(cx));
            if let Self::Waiting(waiting) = mem::replace(&mut *self, Self::Answered) {
                match arrived {
                    Ok(()) => *self = Self::Begun(waiting.begin()),
                    Err(status) => return Poll::Ready(Ok(status.into_http())),
                }
            }
        }
        match &mut *self {
            Self::Begun(call) => Pin::new(call).poll(cx),
            Self::Waiting(_) | Self::Answered => Poll::Pending,
        }
    }
}

/// A call whose request has not arrived yet.
#[derive(Debug)]
pub struct Waiting<S, B> {
    inner: S,
    parts: request::Parts,
    body: B,
    arrived: Bytes,
    by: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    space: Space,
}

impl<S, B> Waiting<S, B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    /// Ready when all of the request is there, or its first part.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        while !self.body.is_end_stream() && self.arrived.len() < PART {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.add(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Status::from_error(error.into())));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return self.poll_time(cx),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if !self.space.hold(self.arrived.len()) {
            return Poll::Ready(Err(overloaded()));
        }
        let deadline = poll_deadline(&mut self.sleep, Some(self.by), cx);
        deadline.map(|()| Err(exceeded()))
    }

    /// Copied where there is more to come: a part that is kept as it came would keep the whole of what was read with it.
    fn add(&mut self, data: Bytes) {
        if self.arrived.is_empty() && self.body.is_end_stream() {
            self.arrived = data;
            return;
        }
        let mut arrived = BytesMut::from(mem::take(&mut self.arrived));
        arrived.extend_from_slice(&data);
        self.arrived = arrived.freeze();
    }

    fn begin<R>(mut self) -> S::Future
    where
        S: Service<Request<Body>, Response = Response<R>, Error = Infallible>,
    {
        let body = if self.body.is_end_stream() {
            Body::new(Full::new(self.arrived))
        } else {
            Body::new(Rest {
                arrived: Some(self.arrived),
                body: self.body,
                by: self.by,
                sleep: None,
            })
        };
        self.inner.call(Request::from_parts(self.parts, body))
    }
}

/// How much has arrived of all requests that have not begun.
#[derive(Debug, Clone, Default)]
struct Room(Arc<AtomicUsize>);

/// What one request takes of it.
#[derive(Debug)]
struct Space {
    room: Room,
    taken: usize,
}

impl Space {
    /// Takes room for so many bytes in all; says whether there is.
    fn hold(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.taken);
        self.taken += more;
        more == 0 || self.room.0.fetch_add(more, Ordering::AcqRel) + more <= WAITING_MAX
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.room.0.fetch_sub(self.taken, Ordering::AcqRel);
        }
    }
}

/// The body of a request that has begun before it was there: its first part, and then the rest as it comes in time.
#[derive(Debug)]
struct Rest<B> {
    arrived: Option<Bytes>,
    body: B,
    by: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<B> http_body::Body for Rest<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        if let Some(arrived) = this.arrived.take() {
            return Poll::Ready(Some(Ok(Frame::data(arrived))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(poll_deadline(&mut this.sleep, Some(this.by), cx));
        Poll::Ready(Some(Err(Box::new(exceeded()))))
    }

    fn is_end_stream(&self) -> bool {
        self.arrived.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_all_and_its_room_comes_back() {
        let room = Room::default();
        let space = || Space {
            room: room.clone(),
            taken: 0,
        };
        let (mut first, mut second) = (space(), space());
        assert!(first.hold(WAITING_MAX - 10));
        assert!(first.hold(WAITING_MAX - 10), "it is held already");
        assert!(second.hold(10));
        assert!(!second.hold(11));
        drop(second);
        assert!(space().hold(10));
        drop(first);
        assert!(space().hold(WAITING_MAX));
        assert_eq!(room.0.load(Ordering::Acquire), 0);
    }
}
