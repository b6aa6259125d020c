//! The loop that accepts connections. It outlives every error that accepting one can bring.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{
    ClientAddress, Ending, Seats,
    seats::{Full, Seat},
};
use crate::telemetry::metrics as names;

/// How long to let be, when the machine has no file descriptors or memory to give. Connections wait in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that has a seat.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// To hold for as long as it is open.
    pub seat: Seat<IpAddr>,
}

/// Accepts connections until `ending.draining`, and gives each to `serve`, in a task that ends at the latest with
/// `ending.cut`. The listener closes when this returns.
pub async fn accept<F, T>(listener: TcpListener, seats: Seats<IpAddr>, ending: Ending, serve: F)
where
    F: Fn(Accepted) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            biased;
            () = ending.draining.cancelled() => return,
            () = ending.cut.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(accepted) = seated(stream, peer, &seats) {
                    let (call, cut) = (serve(accepted), ending.cut.clone());
                    ending
                        .tasks
                        .spawn(async move { cut.run_until_cancelled(call).await });
                }
            }
            Err(error) => recover(&error).await,
        }
    }
}

/// Those that were too many are closed by a reset, which costs neither side a port in `TIME_WAIT`.
fn seated(stream: TcpStream, peer: SocketAddr, seats: &Seats<IpAddr>) -> Option<Accepted> {
    match seats.take(ClientAddress::new(peer).network()) {
        Ok(seat) => {
            // A connection that is already gone shows it soon enough.
            let _gone = stream.set_nodelay(true);
            Some(Accepted { stream, peer, seat })
        }
        Err(full) => {
            let reason = match full {
                Full::InAll => "full",
                Full::ForOne => "full_for_address",
            };
            metrics::counter!(names::CONNECTIONS_REFUSED, "reason" => reason).increment(1);
            tracing::debug!(client.address = %peer, reason, "connection refused");
            let _gone = stream.set_zero_linger();
            None
        }
    }
}

/// A connection that was gone before it was accepted harms nobody; a lack of descriptors would make the loop spin.
async fn recover(error: &io::Error) {
    let of_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if of_connection {
        return;
    }
    metrics::counter!(names::CONNECTIONS_REFUSED, "reason" => "accept_failed").increment(1);
    tracing::warn!(error.cause = %error, "no connection can be accepted");
    sleep(PAUSE).await;
}
