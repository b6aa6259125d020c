//! Answers `DEADLINE_EXCEEDED` when time is up, and lets what has begun finish. A unary call has the server's time, or the
//! client's where that is shorter; a stream has the client's, where there is one. A request that trickles in is cut by the same
//! clock, so that it does not hold its handler.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, StdError},
};
use tower::Service;

use super::{context::CallContext, stream_end::StreamEnd};
use crate::{
    error::{Error, Reason},
    grpc::methods::{Method, Shape},
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Deadlines<S> {
    inner: S,
    cap: Duration,
    draining: CancellationToken,
}

impl<S> Deadlines<S> {
    pub(super) fn new(inner: S, cap: Duration, draining: CancellationToken) -> Self {
        Self {
            inner,
            cap,
            draining,
        }
    }
}

impl<S, B, R> Service<Request<B>> for Deadlines<S>
where
    S: Service<Request<Body>, Response = Response<R>, Error = Infallible>,
    S::Future: Unpin,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
    R: Default,
{
    type Response = Response<StreamEnd<R>>;
    type Error = Infallible;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let now = Instant::now();
        let asked = asked_for(request.headers()).and_then(|asked| now.checked_add(asked));
        let cap = now + self.cap;
        let (mut deadline, mut method) = (None, None);
        if let Some(context) = request.extensions_mut().get_mut::<CallContext>() {
            deadline = match context.method.shape() {
                Shape::Unary => Some(asked.map_or(cap, |asked| asked.min(cap))),
                Shape::ServerStream | Shape::ClientStream => asked,
            };
            context.deadline = deadline;
            method = Some(context.method);
        }
        let arrival = match method.map(Method::shape) {
            Some(Shape::ClientStream) => None,
            Some(Shape::Unary | Shape::ServerStream) | None => Some(deadline.unwrap_or(cap)),
        };
        let request = request.map(|body| match arrival {
            Some(by) => Body::new(Arriving::new(body, by)),
            None => Body::new(body),
        });
        let streams = method.filter(|method| method.shape() != Shape::Unary);
        Timed {
            call: Some(self.inner.call(request)),
            deadline,
            sleep: None,
            draining: streams
                .filter(|method| !method.is_ours())
                .map(|_| self.draining.clone()),
            is_stream: streams.is_some(),
        }
    }
}

/// The time that the client gives (`grpc-timeout` of the gRPC protocol: at most 8 digits and a unit). One that cannot be read
/// is no time at all.
fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let good = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| good)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn exceeded() -> Status {
    Error::new(
        Reason::DeadlineExceeded,
        "the call took longer than allowed; what it began may still be done",
    )
    .into()
}

/// A call under way.
#[derive(Debug)]
pub struct Timed<F> {
    call: Option<F>,
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    draining: Option<CancellationToken>,
    is_stream: bool,
}

impl<F, R> Future for Timed<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Default,
{
    type Output = Result<Response<StreamEnd<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(call) = &mut this.call
            && let Poll::Ready(Ok(response)) = Pin::new(call).poll(cx)
        {
            let end = (this.is_stream, this.deadline, this.draining.take());
            return Poll::Ready(Ok(response.map(|body| match end {
                (true, deadline, draining) => StreamEnd::new(body, deadline, draining),
                (false, ..) => StreamEnd::none(body),
            })));
        }
        // Most calls are answered at once and never get here, so that they cost no timer.
        ready!(poll_deadline(&mut this.sleep, this.deadline, cx));
        this.call = None;
        Poll::Ready(Ok(exceeded().into_http()))
    }
}

/// Ready at the deadline; never where there is none.
pub(super) fn poll_deadline(
    sleep: &mut Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Some(deadline) = deadline else {
        return Poll::Pending;
    };
    sleep
        .get_or_insert_with(|| Box::pin(sleep_until(deadline)))
        .as_mut()
        .poll(cx)
}

/// A request's body that must have arrived in time.
#[derive(Debug)]
struct Arriving<B> {
    body: B,
    by: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<B> Arriving<B> {
    fn new(body: B, by: Instant) -> Self {
        Self {
            body,
            by,
            sleep: None,
        }
    }
}

impl<B> http_body::Body for Arriving<B>
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
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(poll_deadline(&mut this.sleep, Some(this.by), cx));
        Poll::Ready(Some(Err(Box::new(exceeded()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_time_is_read_as_grpc_writes_it() {
        for (text, millis) in [
            ("1S", Some(1_000)),
            ("250m", Some(250)),
            ("99999999H", Some(359_999_996_400_000)),
            ("2000u", Some(2)),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("+1S", None),
            ("123456789S", None),
            ("1s", None),
            ("1\u{e9}", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            let asked = asked_for(&headers);
            assert_eq!(asked, millis.map(Duration::from_millis), "{text:?}");
        }
    }
}
