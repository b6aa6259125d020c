//! The streams of health and reflection. Their services know nothing of the server's limits or of its end, so both are seen to
//! here: a connection has a few of them at a time, and none lasts for ever.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::Extensions;
use metrics::gauge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::context::CallContext;
use crate::{
    connections::{ClientAddress, Seats, seats::Seat},
    error::{Error, Reason},
    grpc::methods::Shape,
    telemetry::metrics as names,
};

/// How many a connection may have. A client watches the health of a connection once, and asks for descriptors one by one.
const PER_CONNECTION: usize = 4;
/// How long health is watched; clients begin again.
const HEALTH: Duration = Duration::from_mins(30);
/// How long a client may ask for descriptors.
const REFLECTION: Duration = Duration::from_mins(1);

/// All of them. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct ToolStreams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    seats: Seats<SocketAddr>,
    draining: CancellationToken,
}

/// One of them.
#[derive(Debug)]
pub(super) struct ToolStream {
    /// When it ends.
    pub(super) by: Instant,
    /// Ends it, too.
    pub(super) draining: CancellationToken,
    _seat: Option<Seat<SocketAddr>>,
}

impl ToolStreams {
    /// They end with `draining`.
    pub(super) fn new(draining: CancellationToken) -> Self {
        let gauge = gauge!(names::STREAMS, "method" => "health and reflection");
        Self(Arc::new(Shared {
            seats: Seats::new(usize::MAX, PER_CONNECTION, gauge),
            draining,
        }))
    }

    /// Begins one, where the call is one. RESOURCE_EXHAUSTED where its connection has too many.
    pub(super) fn begin(&self, call: &Extensions) -> Result<Option<ToolStream>, Status> {
        let Some(context) = CallContext::of(call).filter(|context| !context.method.is_ours())
        else {
            return Ok(None);
        };
        let life = match context.method.shape() {
            Shape::Unary => return Ok(None),
            Shape::ServerStream => HEALTH,
            Shape::ClientStream => REFLECTION,
        };
        let connection = call.get::<ClientAddress>().map(|client| client.socket());
        let seat = connection.map(|connection| self.0.seats.take(connection));
        let seat = seat.transpose().map_err(|_| too_many())?;
        Ok(Some(ToolStream {
            by: Instant::now() + life,
            draining: self.0.draining.clone(),
            _seat: seat,
        }))
    }
}

fn too_many() -> Status {
    let message = "the connection has as many streams of health and reflection as it may";
    Error::new(Reason::TooManyStreams, message)
        .retry_after(Duration::from_secs(1))
        .into()
}
