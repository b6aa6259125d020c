//! Begins a call when its request has arrived: a client that announces calls and never sends them keeps nobody out, since it
//! holds no place among those at work, and no handler ever waits for a client. Streams of messages begin at once.
//!
//! What has arrived of requests that are still to begin is bounded, over all connections and for each network.

use std::{
    collections::HashMap,
    convert::Infallible,
    mem,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response, request};
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
use crate::{connections::ClientAddress, grpc::methods::Shape};

/// What begins although there is more of it, in bytes: it is larger than any service takes, and refused by its length.
const LARGEST: usize = 3 * 1024 * 1024 + 1024;
/// How much may have arrived of all that have not begun, in bytes.
const WAITING_MAX: usize = 128 * 1024 * 1024;
/// How much of that may be of one network.
const WAITING_OF_ONE_MAX: usize = WAITING_MAX / 4 * 3;

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
        let client = request.extensions().get::<ClientAddress>();
        let network = client.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.network());
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
                network,
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
            let arrived = ready!(waiting.poll_whole(cx));
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
    /// Ready when all of the request is there, or more than anybody takes.
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        while !self.body.is_end_stream() && self.arrived.len() < LARGEST {
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
        let body = Body::new(Full::new(self.arrived));
        self.inner.call(Request::from_parts(self.parts, body))
    }
}

/// How much has arrived of all requests that have not begun, and of each network's.
#[derive(Debug, Clone, Default)]
struct Room(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// What one request takes of it.
#[derive(Debug)]
struct Space {
    room: Room,
    network: IpAddr,
    taken: usize,
}

impl Room {
    /// Counts stay right whoever panicked while holding them.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space {
    /// Takes room for so many bytes in all; says whether there is.
    fn hold(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.taken);
        if more == 0 {
            return true;
        }
        let mut taken = self.room.taken();
        let of_one = taken.by_network.get(&self.network).copied();
        let of_one = of_one.unwrap_or_default() + more;
        if taken.total + more > WAITING_MAX || of_one > WAITING_OF_ONE_MAX {
            return false;
        }
        taken.total += more;
        taken.by_network.insert(self.network, of_one);
        self.taken = bytes;
        true
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if self.taken == 0 {
            return;
        }
        let mut taken = self.room.taken();
        taken.total -= self.taken;
        if let Some(of_one) = taken.by_network.get_mut(&self.network) {
            *of_one -= self.taken;
            if *of_one == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_all_and_of_each_network_and_its_room_comes_back() {
        let room = Room::default();
        let space = |last| Space {
            room: room.clone(),
            network: Ipv4Addr::new(192, 0, 2, last).into(),
            taken: 0,
        };
        let (mut first, mut second) = (space(1), space(1));
        assert!(first.hold(WAITING_OF_ONE_MAX - 10));
        assert!(first.hold(WAITING_OF_ONE_MAX - 10), "it is held already");
        assert!(second.hold(10));
        assert!(!second.hold(11), "the network has no more");
        let mut other = space(2);
        assert!(other.hold(WAITING_MAX - WAITING_OF_ONE_MAX));
        assert!(!space(3).hold(1), "nobody has more");
        drop((second, other));
        assert!(space(1).hold(10));
        drop(first);
        assert!(space(1).hold(WAITING_OF_ONE_MAX));
        let taken = room.taken();
        assert_eq!((taken.total, taken.by_network.len()), (0, 0));
    }
}
