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
use tokio_util::sync::CancellationToken;

use super::{
    ClientAddress, Ending, Seats, Stream,
    seats::{Full, Seat},
    tls::Acceptor,
};
use crate::telemetry::metrics as names;

/// How long to let be, when the machine has no file descriptors or memory to give. Connections wait in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// How many are accepted after `draining`: those that may have been waiting.
const BACKLOG: usize = 1024;

/// A connection that has a seat, and has shaken hands where that is asked.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Its other end.
    pub peer: SocketAddr,
    /// To hold for as long as it is open.
    pub seat: Seat<IpAddr>,
}

/// Accepts connections until `ending.draining`, and those that wait then; lets `acceptor` begin each and gives it to `serve`, in a
/// task that ends at the latest with `ending.cut`. The listener closes when this returns.
pub async fn accept<F, T>(
    listener: TcpListener,
    acceptor: Acceptor,
    seats: Seats<IpAddr>,
    ending: Ending,
    serve: F,
) where
    F: Fn(Accepted) -> T + Clone + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let mut waiting = BACKLOG;
    while waiting > 0 {
        let accepted = tokio::select! {
            biased;
            () = ending.cut.cancelled() => return,
            accepted = listener.accept() => accepted,
            // Nobody is left who has been told by the system that there is a connection.
            () = ending.draining.cancelled() => return,
        };
        if ending.draining.is_cancelled() {
            waiting -= 1;
        }
        match accepted {
            Ok((stream, peer)) => {
                if let Some(seat) = seat(&stream, peer, &seats) {
                    let begun = begin(stream, peer, acceptor.clone(), ending.draining.clone());
                    let (serve, cut) = (serve.clone(), ending.cut.clone());
                    let served = async move {
                        if let Some(stream) = begun.await {
                            serve(Accepted { stream, peer, seat }).await;
                        }
                    };
                    ending
                        .tasks
                        .spawn(async move { cut.run_until_cancelled(served).await });
                }
            }
            Err(error) => recover(&error).await,
        }
    }
}

/// Those that were too many are closed by a reset, which costs neither side a port in `TIME_WAIT`.
fn seat(stream: &TcpStream, peer: SocketAddr, seats: &Seats<IpAddr>) -> Option<Seat<IpAddr>> {
    match seats.take(ClientAddress::new(peer).network()) {
        Ok(seat) => {
            // A connection that is already gone shows it soon enough.
            let _gone = stream.set_nodelay(true);
            Some(seat)
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

/// Whoever still shakes hands when the server ends has nothing to lose.
async fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Acceptor,
    draining: CancellationToken,
) -> Option<Stream> {
    let begun = tokio::select! {
        biased;
        begun = acceptor.accept(stream) => begun,
        () = draining.cancelled() => return None,
    };
    match begun {
        Ok(stream) => Some(stream),
        Err(error) => {
            metrics::counter!(names::CONNECTIONS_REFUSED, "reason" => "handshake").increment(1);
            tracing::debug!(client.address = %peer, error.cause = %error, "TLS handshake failed");
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
