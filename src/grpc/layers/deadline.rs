//! Answers `DEADLINE_EXCEEDED` when time is up, and lets what has begun finish. A unary call has the server's time, or the
//! client's where that is shorter; a stream has the client's, where there is one, and those of `tool_streams` what they may.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tower::Service;

use super::{
    context::CallContext,
    stream_end::StreamEnd,
    tool_streams::{ToolStream, ToolStreams},
};
use crate::{
    error::{Error, Reason},
    grpc::methods::Shape,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Deadlines<S> {
    inner: S,
    cap: Duration,
    tools: ToolStreams,
}

impl<S> Deadlines<S> {
    pub(super) fn new(inner: S, cap: Duration, tools: ToolStreams) -> Self {
        Self { inner, cap, tools }
    }
}

impl<S, B, R> Service<Request<B>> for Deadlines<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Unpin,
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
        let tool = match self.tools.begin(request.extensions()) {
            Ok(tool) => tool,
            Err(status) => return Timed::refused(status),
        };
        let (mut deadline, mut is_stream) = (None, false);
        if let Some(context) = request.extensions_mut().get_mut::<CallContext>() {
            is_stream = context.method.shape() != Shape::Unary;
            let cap = match &tool {
                Some(tool) => Some(tool.by),
                None => (!is_stream).then_some(cap),
            };
            deadline = [asked, cap].into_iter().flatten().min();
            context.deadline = deadline;
        }
        Timed {
            call: Ok(self.inner.call(request)),
            deadline,
            sleep: None,
            tool,
            is_stream,
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

pub(super) fn exceeded() -> Status {
    Error::new(
        Reason::DeadlineExceeded,
        "the call took longer than allowed; what it began may still be done",
    )
    .into()
}

/// A call under way, or one that is over before it began.
#[derive(Debug)]
pub struct Timed<F> {
    call: Result<F, Option<Status>>,
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    tool: Option<ToolStream>,
    is_stream: bool,
}

impl<F> Timed<F> {
    fn refused(status: Status) -> Self {
        Self {
            call: Err(Some(status)),
            deadline: None,
            sleep: None,
            tool: None,
            is_stream: false,
        }
    }
}

impl<F, R> Future for Timed<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
    R: Default,
{
    type Output = Result<Response<StreamEnd<R>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut this.call {
            Ok(call) => {
                if let Poll::Ready(Ok(response)) = Pin::new(call).poll(cx) {
                    let (deadline, tool) = (this.deadline, this.tool.take());
                    let is_stream = this.is_stream;
                    return Poll::Ready(Ok(response.map(|body| {
                        if is_stream {
                            StreamEnd::new(body, deadline, tool)
                        } else {
                            StreamEnd::none(body)
                        }
                    })));
                }
            }
            Err(refused) => {
                let status = refused.take().unwrap_or_else(exceeded);
                return Poll::Ready(Ok(status.into_http()));
            }
        }
        // Most calls are answered at once and never get here, so that they cost no timer.
        ready!(poll_deadline(&mut this.sleep, this.deadline, cx));
        this.call = Err(None);
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
