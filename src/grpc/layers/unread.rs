//! Bounds what is held for clients that do not take what they asked for: one may ask for much on every stream that it may open,
//! and read none of it.
//!
//! A unary answer counts by its size from when it is made until it is sent, in all and by the address that asked; where there is
//! no room for it, the call is answered RESOURCE_EXHAUSTED instead. A small one does not count, as most do not. A connection on
//! which an answer that counts lies for too long is cut.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
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
/// How long an answer that counts may lie.
const PATIENCE: Duration = Duration::from_mins(1);

/// See the module.
#[derive(Debug, Clone)]
pub struct Unread<S> {
    inner: S,
    held: Arc<Held>,
}

/// All answers that count.
#[derive(Debug)]
struct Held {
    bytes: Seats<IpAddr>,
    watches: TaskTracker,
    draining: CancellationToken,
}

/// Cuts the connection that a call came on. Stands in the extensions of its request.
#[derive(Debug, Clone)]
pub struct ConnectionCut(pub CancellationToken);

impl<S> Unread<S> {
    /// Watches what lies there by tasks among `watches`, until the server goes away.
    pub(super) fn new(inner: S, watches: TaskTracker, draining: CancellationToken) -> Self {
        let gauge = metrics::gauge!(names::UNREAD_BYTES);
        let bytes = Seats::new(IN_ALL, OF_ONE, gauge);
        let held = Arc::new(Held {
            bytes,
            watches,
            draining,
        });
        Self { inner, held }
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
        let context = CallContext::of(request.extensions());
        let counts = context.filter(|context| context.method.shape() == Shape::Unary);
        let client = counts.map(|context| Client {
            network: context.client.network(),
            cut: request.extensions().get().cloned(),
        });
        Answering {
            call: self.inner.call(request),
            client,
            held: Arc::clone(&self.held),
        }
    }
}

/// Who is to read the answer.
#[derive(Debug)]
struct Client {
    network: IpAddr,
    cut: Option<ConnectionCut>,
}

/// A call under way.
#[derive(Debug)]
pub struct Answering<F> {
    call: F,
    client: Option<Client>,
    held: Arc<Held>,
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.call).poll(cx));
        let Some(client) = self.client.take() else {
            return Poll::Ready(Ok(response));
        };
        let (parts, mut body) = response.into_parts();
        // A message that is there is written out by this, and its size known.
        let Poll::Ready(Some(Ok(first))) = Pin::new(&mut body).poll_frame(cx) else {
            return Poll::Ready(Ok(Response::from_parts(parts, body)));
        };
        let size = first.data_ref().map_or(0, Bytes::len);
        let place = match self.held.place(client, size) {
            Ok(place) => place,
            Err(refused) => return Poll::Ready(Ok(refused.into_http())),
        };
        let body = Body::new(Answer {
            first: Some(first),
            rest: body,
            _place: place,
        });
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}

impl Held {
    /// A place for an answer, where it is not small.
    fn place(&self, client: Client, size: usize) -> Result<Option<Place>, Status> {
        if size <= SMALL {
            return Ok(None);
        }
        let bytes = self.bytes.take_some(client.network, size);
        let bytes = bytes.map_err(|_| no_room())?;
        let taken = CancellationToken::new();
        if let Some(ConnectionCut(cut)) = client.cut {
            let draining = self.draining.clone();
            let over = taken.clone();
            let over = async move {
                tokio::select! {
                    () = over.cancelled() => {}
                    () = draining.cancelled() => {}
                }
            };
            let late = tokio::time::sleep(PATIENCE);
            self.watches.spawn(cut_unless(over, late, cut));
        }
        Ok(Some(Place {
            _bytes: bytes,
            _taken: taken.drop_guard(),
        }))
    }
}

/// Cuts a connection where it is not `over` with an answer before it is `late`.
async fn cut_unless(
    over: impl Future<Output = ()>,
    late: impl Future<Output = ()>,
    cut: CancellationToken,
) {
    tokio::select! {
        () = over => {}
        () = late => {
            metrics::counter!(names::CONNECTIONS_REFUSED, "reason" => "unread").increment(1);
            cut.cancel();
        }
    }
}

fn no_room() -> Status {
    let message = "answers that were asked for and not read take all the room there is";
    Error::new(Reason::Overloaded, message)
        .retry_after(Duration::from_secs(1))
        .into()
}

/// An answer that counts, until it is taken or given up.
#[derive(Debug)]
struct Place {
    _bytes: Seat<IpAddr>,
    _taken: DropGuard,
}

/// The body of an answer.
#[derive(Debug)]
struct Answer {
    first: Option<Frame<Bytes>>,
    rest: Body,
    _place: Option<Place>,
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

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_connection_is_cut_where_an_answer_lies_for_too_long() {
        let connection = CancellationToken::new();
        cut_unless(ready(()), pending(), connection.clone()).await;
        assert!(!connection.is_cancelled(), "it was taken");
        cut_unless(pending(), ready(()), connection.clone()).await;
        assert!(connection.is_cancelled(), "it still lies there");
    }
}
