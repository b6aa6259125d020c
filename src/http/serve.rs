//! HTTP/1.1 connections: as many as there are seats, silent no longer than allowed, ended with the server.

use std::{net::IpAddr, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;

use crate::connections::{Accepted, ClientAddress, Ending, Seats, accept::accept, tls::Acceptor};

/// Header fields beyond this together are refused.
const HEADERS_MAX: usize = 16 * 1024;

/// Serves `router` on every connection of `listener`, until `ending` says otherwise. A connection has `patience` for the head
/// of every request, the first and the next.
pub async fn serve(
    listener: TcpListener,
    acceptor: Acceptor,
    router: Router,
    patience: Duration,
    seats: Seats<IpAddr>,
    ending: Ending,
) {
    let shared = ending.clone();
    accept(listener, acceptor, seats, ending, move |accepted| {
        connection(accepted, router.clone(), patience, shared.clone())
    })
    .await;
}

async fn connection(accepted: Accepted, router: Router, patience: Duration, ending: Ending) {
    let Accepted {
        stream,
        peer,
        seat: _seat,
    } = accepted;
    let router = router.layer(axum::Extension(ClientAddress::new(peer)));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_buf_size(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = ending.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(client.address = %peer, error.cause = %error, "connection failed");
    }
}
