//! What stands around every call, outermost first:
//!
//! 1. [`request_id`] names the call and leaves its [`CallContext`] in the extensions.
//! 2. [`access`] counts it, times it, and logs its failure, once.
//! 3. [`metadata`] refuses what gRPC does not allow there.
//! 4. [`deadline`] answers when time is up; what has begun goes on. It ends the streams of health and reflection
//!    (`tool_streams`).
//! 5. [`arrival`] begins a call when its request is there.
//! 6. [`task`] keeps what has begun alive when nobody waits for it any more, and turns a panic into INTERNAL.
//! 7. [`in_flight`] turns away what is too much. It stands inside [`task`], so that a call counts for as long as it works
//!    rather than for as long as somebody waits for it.
//! 8. [`unread`] bounds what answers take that nobody reads.
//! 9. Authentication, and then the services: the `inner` of [`around`].
//!
//! None of them is ever not ready, and none fails: a failure is a response. Deliberately not here: tonic's own timeout (it
//! answers CANCELLED and drops the handler) and its limits (per connection, and let go before the response is out).

pub mod access;
pub mod arrival;
pub mod context;
pub mod deadline;
pub mod in_flight;
pub mod metadata;
pub mod request_id;
mod stream_end;
pub mod task;
mod tool_streams;
pub mod unread;

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::Service;

pub use self::context::{CallContext, RequestId};
use self::{
    access::Access, arrival::Arrivals, deadline::Deadlines, in_flight::InFlight,
    metadata::Metadata, request_id::RequestIds, task::Tasks, tool_streams::ToolStreams,
    unread::Unread,
};

/// The layers around `S`.
pub type Layered<S> = RequestIds<Access<Metadata<Deadlines<Arrivals<Tasks<InFlight<Unread<S>>>>>>>>;

/// A service that can stand inside the layers: it answers every call, and is always ready.
pub trait Calls:
    Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + Unpin + 'static,
    > + Clone
    + Send
    + Sync
    + Unpin
    + 'static
{
}

impl<S> Calls for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + Unpin + 'static,
        > + Clone
        + Send
        + Sync
        + Unpin
        + 'static
{
}

/// What the layers go by.
#[derive(Debug, Clone)]
pub struct LayerSettings {
    /// How many unary calls may be at work.
    pub in_flight: usize,
    /// How long a unary call may take.
    pub request_timeout: Duration,
    /// Where calls that nobody waits for any more finish.
    pub calls: TaskTracker,
    /// Ends the streams of services that know nothing of the server's end.
    pub draining: CancellationToken,
}

/// Puts the layers around `inner`.
pub fn around<S>(inner: S, settings: &LayerSettings) -> Layered<S> {
    let in_flight = InFlight::new(Unread::new(inner), settings.in_flight);
    let tasks = Tasks::new(in_flight, settings.calls.clone());
    let arrivals = Arrivals::new(tasks, settings.request_timeout);
    let tools = ToolStreams::new(settings.draining.clone());
    let deadlines = Deadlines::new(arrivals, settings.request_timeout, tools);
    RequestIds::new(Access::new(Metadata::new(deadlines)))
}
