//! The server to compare with: the same transport with the same settings, no layers, and a handler that has its answer ready.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use metrics::Gauge;
use prost::Message;
use token_authority::{
    config::Settings,
    connections::{Ending, Seats, tls::Acceptor},
    grpc::transport::{self, TransportSettings},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::Codec,
    codegen::{Bytes, http},
    server::{Grpc, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::opaque::Opaque;

/// The largest request.
const REQUEST_MAX: usize = 3 * 1024 * 1024;

/// Serves one answer for every call, whose messages are those of the contract: read and written like the real ones.
pub(crate) fn serve_messages<Q, A>(runtime: &Runtime, answer: &Bytes) -> SocketAddr
where
    Q: Message + Default + 'static,
    A: Message + Default + Clone + Sync + 'static,
{
    let answer = A::decode(answer.clone()).unwrap();
    serve(
        runtime,
        Empty {
            codec: ProstCodec::<A, Q>::default,
            answer,
        },
    )
}

/// Serves one answer for every call, without looking into the messages.
pub(crate) fn serve_opaque(runtime: &Runtime, answer: &Bytes) -> SocketAddr {
    let answer = answer.clone();
    serve(
        runtime,
        Empty {
            codec: || Opaque,
            answer,
        },
    )
}

fn serve<C, A>(runtime: &Runtime, empty: Empty<C, A>) -> SocketAddr
where
    Empty<C, A>: Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future: Send + Unpin + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    let limits = Settings::default().limits;
    let settings = TransportSettings {
        streams_max: limits.streams_per_connection,
        first_byte_timeout: limits.first_byte_timeout,
        connection_age: limits.connection_age,
    };
    let seats = Seats::new(
        limits.connections,
        limits.connections_per_address,
        Gauge::noop(),
    );
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(transport::serve(
        listener,
        Acceptor::plain(),
        empty,
        settings,
        seats,
        Ending::default(),
    ));
    address
}

#[derive(Clone)]
struct Empty<C, A> {
    codec: C,
    answer: A,
}

impl<F, C, A> Service<http::Request<hyper::body::Incoming>> for Empty<F, A>
where
    F: Fn() -> C,
    C: Codec<Encode = A> + Send + 'static,
    C::Decode: Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let mut grpc = Grpc::new((self.codec)()).max_decoding_message_size(REQUEST_MAX);
        let handler = Handler(self.answer.clone());
        Box::pin(async move { Ok(grpc.unary(handler, request).await) })
    }
}

struct Handler<A>(A);

impl<Q, A: Clone> UnaryService<Q> for Handler<A> {
    type Response = A;
    type Future = Ready<Result<Response<A>, Status>>;

    fn call(&mut self, _: Request<Q>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}
