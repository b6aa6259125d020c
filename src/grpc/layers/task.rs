//! Keeps alive what has begun. A client that goes away, or a deadline that passes, drops the call's future; a handler dropped
//! between two statements would leave work half done, so what is left of it moves to a task of its own and finishes there. A
//! call that somebody waits for until its end needs no task, and pays for none.
//!
//! A handler that panics is answered INTERNAL; its connection and everybody else's calls go on.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tower::Service;

use super::{
    access::log_failure,
    context::{CallContext, RequestId},
};
use crate::{
    background::message_of,
    error::{Error, Reason},
    grpc::methods::Method,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Tasks<S> {
    inner: S,
    calls: TaskTracker,
}

impl<S> Tasks<S> {
    pub(super) fn new(inner: S, calls: TaskTracker) -> Self {
        Self { inner, calls }
    }
}

impl<S, B, R> Service<Request<B>> for Tasks<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Send + Unpin + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Call<S::Future, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = CallContext::of(request.extensions());
        let caught = Caught {
            method: context.map_or_else(|| Method::at(""), |context| context.method),
            request_id: context.map_or_else(RequestId::next, |context| context.request_id.clone()),
            call: catch_unwind(AssertUnwindSafe(|| self.inner.call(request)))
                .map_err(|panic| panicked(&*panic)),
        };
        Call {
            begun: false,
            caught: Some(caught),
            calls: self.calls.clone(),
        }
    }
}

/// A call under way. Dropped after it has begun, it goes on without its caller.
#[derive(Debug)]
pub struct Call<F, R>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Send + Unpin + 'static,
    R: Default + Send + 'static,
{
    begun: bool,
    caught: Option<Caught<F>>,
    calls: TaskTracker,
}

impl<F, R> Future for Call<F, R>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Send + Unpin + 'static,
    R: Default + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.begun = true;
        let Some(caught) = &mut this.caught else {
            return Poll::Pending;
        };
        let polled = Pin::new(caught).poll(cx);
        if polled.is_ready() {
            this.caught = None;
        }
        polled.map(Ok)
    }
}

impl<F, R> Drop for Call<F, R>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Send + Unpin + 'static,
    R: Default + Send + 'static,
{
    fn drop(&mut self) {
        let Some(caught) = self.caught.take().filter(|_| self.begun) else {
            return;
        };
        // There is none when the process is at its end; then nothing can go on.
        if let Ok(runtime) = Handle::try_current() {
            self.calls.spawn_on(finish(caught), &runtime);
        }
    }
}

/// Nobody hears how it ends, but the log should.
async fn finish<F, R>(caught: Caught<F>)
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Default,
{
    let (method, request_id) = (caught.method, caught.request_id.clone());
    let response = caught.await;
    if let Some(status) = response.extensions().get::<Status>() {
        log_failure(method, &request_id, status.code(), Some(status));
    }
}

/// A call whose panics are answers.
#[derive(Debug)]
struct Caught<F> {
    method: &'static Method,
    request_id: RequestId,
    call: Result<F, Status>,
}

impl<F, R> Future for Caught<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Default,
{
    type Output = Response<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = match &mut self.call {
            Ok(call) => Pin::new(call),
            Err(panicked) => return Poll::Ready(panicked.clone().into_http()),
        };
        // A future that has panicked is not polled again, so that nothing broken is seen.
        match catch_unwind(AssertUnwindSafe(|| call.poll(cx))) {
            Ok(polled) => polled.map(|Ok(response)| response),
            Err(panic) => Poll::Ready(panicked(&*panic).into_http()),
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = message_of(panic);
    Error::new(Reason::Internal, format!("a handler panicked: {text}")).into()
}
