//! Counts and times every call, and logs the failure of one: the only place that does. A unary call is counted when it is
//! answered, a stream when it has ended; one that its client gave up is CANCELLED.

use std::{
    convert::Infallible,
    error::Error as _,
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};
use tower::Service;

use super::context::{CallContext, RequestId};
use crate::{
    error::reason_name,
    grpc::{
        methods::{Method, Shape},
        status,
    },
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Access<S> {
    inner: S,
}

impl<S> Access<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, R> Service<Request<B>> for Access<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Unpin,
    R: Default,
{
    type Response = Response<Observed<R>>;
    type Error = Infallible;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let entry = CallContext::of(request.extensions()).map(Entry::begin);
        Observing {
            call: self.inner.call(request),
            entry,
        }
    }
}

/// What will be counted of a call. Dropped before it is told how the call ended, it counts as cancelled.
#[derive(Debug)]
struct Entry {
    method: &'static Method,
    request_id: RequestId,
    begun: Instant,
    counted: bool,
}

impl Entry {
    fn begin(context: &CallContext) -> Self {
        Self {
            method: context.method,
            request_id: context.request_id.clone(),
            begun: Instant::now(),
            counted: false,
        }
    }

    fn count(&mut self, code: Code) {
        self.counted = true;
        self.method.count(code, self.begun.elapsed());
    }

    fn end(&mut self, code: Code, told: Option<&Status>) {
        self.count(code);
        if code != Code::Ok {
            log_failure(self.method, &self.request_id, code, told);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.counted {
            self.count(Code::Cancelled);
        }
    }
}

/// Logs how a call failed, with the causes that its client is not told. A fault of ours is an error, a lack of something we
/// need a warning; the rest is the client's affair.
pub(super) fn log_failure(
    method: &Method,
    request_id: &RequestId,
    code: Code,
    told: Option<&Status>,
) {
    let behind = told.and_then(status::error_behind);
    let reason = behind.map(|error| reason_name(error.reason()));
    let cause = || told.map(cause_of).unwrap_or_default();
    let is_ours = !told.is_some_and(status::is_protocol_error);
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss if is_ours => tracing::error!(
            request.id = %request_id, call.method = method.name(), call.code = ?code,
            error.reason = reason, error.cause = cause(), "call failed"
        ),
        Code::Unavailable => tracing::warn!(
            request.id = %request_id, call.method = method.name(), call.code = ?code,
            error.reason = reason, error.cause = cause(), "call failed"
        ),
        _ => tracing::debug!(
            request.id = %request_id, call.method = method.name(), call.code = ?code,
            error.reason = reason, error.cause = cause(), "call failed"
        ),
    }
}

/// The message for the log and those of everything behind it.
fn cause_of(told: &Status) -> String {
    let Some(error) = status::error_behind(told) else {
        return told.message().to_owned();
    };
    let mut text = error.message().to_owned();
    let mut source = error.source();
    while let Some(error) = source {
        let _infallible = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// A call under way.
#[derive(Debug)]
pub struct Observing<F> {
    call: F,
    entry: Option<Entry>,
}

impl<F, R> Future for Observing<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Default,
{
    type Output = Result<Response<Observed<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.call).poll(cx));
        let Some(entry) = self.entry.take() else {
            return Poll::Ready(Ok(response.map(|body| Observed { body, entry: None })));
        };
        Poll::Ready(Ok(answered(response, entry)))
    }
}

fn answered<R: Default>(response: Response<R>, mut entry: Entry) -> Response<Observed<R>> {
    let Some(code) = code_in(response.headers()) else {
        // The head of a good answer: a unary call is done, a stream has begun.
        let open = entry.method.shape() != Shape::Unary;
        if !open {
            entry.end(Code::Ok, None);
        }
        let entry = open.then_some(entry);
        return response.map(|body| Observed { body, entry });
    };
    // Of a method that it does not have, a service says the code alone.
    let bare = Status::from_header_map(response.headers());
    let told = response.extensions().get::<Status>().or(bare.as_ref());
    let ours = told.and_then(|told| status::in_our_words(told, entry.method.is_ours()));
    if let Some(ours) = ours {
        entry.end(ours.code(), Some(&ours));
        ours.into_http()
    } else {
        entry.end(code, told);
        response.map(|body| Observed { body, entry: None })
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

/// A response's body, watched until its end where it is a stream's.
#[derive(Debug, Default)]
pub struct Observed<B> {
    body: B,
    entry: Option<Entry>,
}

impl<B: Body + Unpin> Body for Observed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ended = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| {
                let told = Status::from_header_map(trailers);
                (code_in(trailers).unwrap_or(Code::Ok), told)
            }),
            Some(Err(_)) => Some((Code::Internal, None)),
            None => Some((Code::Ok, None)),
        };
        if let Some((code, told)) = ended
            && let Some(mut entry) = self.entry.take()
        {
            entry.end(code, told.as_ref());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
