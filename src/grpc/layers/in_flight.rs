//! Turns away calls when too many are at work, over all connections: better a few refused at once than all of them late.
//!
//! A call holds its place until its handler is done, whether or not its client takes the response: a client that takes nothing
//! must not keep others out. A stream holds one while it begins and none afterwards: streams are few, long and limited
//! elsewhere, and must not crowd out calls. Health and reflection need no place, so that an overloaded server is not taken for
//! a dead one; a connection has few streams of theirs.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use metrics::{Counter, Gauge};
use pin_project_lite::pin_project;
use tonic::Status;
use tower::Service;

use super::context::CallContext;
use crate::{
    error::{Error, Reason},
    grpc::methods::Method,
    telemetry::metrics as names,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct InFlight<S> {
    inner: S,
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    limit: usize,
    taken: AtomicUsize,
    shed: Counter,
    gauge: Gauge,
}

#[derive(Debug)]
struct Place(Arc<Places>);

impl<S> InFlight<S> {
    pub(super) fn new(inner: S, limit: usize) -> Self {
        let places = Arc::new(Places {
            limit,
            taken: AtomicUsize::new(0),
            shed: metrics::counter!(names::CALLS_SHED),
            gauge: metrics::gauge!(names::CALLS_IN_FLIGHT),
        });
        Self { inner, places }
    }
}

impl Places {
    fn take(self: &Arc<Self>) -> Option<Place> {
        if self.taken.fetch_add(1, Ordering::AcqRel) >= self.limit {
            self.taken.fetch_sub(1, Ordering::AcqRel);
            self.shed.increment(1);
            return None;
        }
        self.gauge.increment(1.0);
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.gauge.decrement(1.0);
    }
}

impl<S, B, R> Service<Request<B>> for InFlight<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: Default,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Working<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = CallContext::of(request.extensions())
            .map_or_else(|| Method::at(""), |context| context.method);
        let exempt = !method.is_ours();
        let place = if exempt { None } else { self.places.take() };
        if place.is_none() && !exempt {
            return Working::Shed;
        }
        Working::At {
            call: self.inner.call(request),
            place,
        }
    }
}

pub(super) fn overloaded() -> Status {
    Error::new(
        Reason::Overloaded,
        "more calls are at work than the server takes on",
    )
    .retry_after(Duration::from_millis(100))
    .into()
}

pin_project! {
    /// A call under way, or turned away.
    #[project = WorkingProjection]
    #[derive(Debug)]
    pub enum Working<F> {
        /// It is at work.
        At { #[pin] call: F, place: Option<Place> },
        /// There was no place for it.
        Shed,
    }
}

impl<F, R> Future for Working<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
    R: Default,
{
    type Output = Result<Response<R>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            WorkingProjection::Shed => Poll::Ready(Ok(overloaded().into_http())),
            WorkingProjection::At { call, place } => {
                let answer = ready!(call.poll(cx));
                place.take();
                Poll::Ready(answer)
            }
        }
    }
}
