//! What stands in the tests where authentication will: it does what a call's header `x-test` asks.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Semaphore;
use tonic::{Status, body::Body, codegen::Bytes};
use tower::{Layer, Service};

use crate::error::{Error, Reason};

/// Where a call that waits says how far it is, and is let go on.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    pub(super) begun: Arc<Semaphore>,
    pub(super) released: Arc<Semaphore>,
    pub(super) finished: Arc<Semaphore>,
}

impl Default for Gates {
    fn default() -> Self {
        let closed = || Arc::new(Semaphore::new(0));
        Self {
            begun: closed(),
            released: closed(),
            finished: closed(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Handler<S> {
    inner: S,
    gates: Gates,
}

impl<S> Layer<S> for Gates {
    type Service = Handler<S>;

    fn layer(&self, inner: S) -> Handler<S> {
        Handler {
            inner,
            gates: self.clone(),
        }
    }
}

impl<S> Service<Request<Body>> for Handler<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gates = self.gates.clone();
        match request
            .headers()
            .get("x-test")
            .map(|value| value.to_str().unwrap())
        {
            None => Box::pin(self.inner.call(request)),
            Some("wait") => Box::pin(async move {
                gates.begun.add_permits(1);
                gates.released.acquire().await.unwrap().forget();
                gates.finished.add_permits(1);
                Ok(empty_message())
            }),
            Some("read") => Box::pin(async move {
                gates.begun.add_permits(1);
                let read = request.into_body().collect().await;
                gates.finished.add_permits(1);
                Ok(read.map_or_else(Status::into_http, |_| empty_message()))
            }),
            Some("fail") => Box::pin(async move {
                let error = Error::new(Reason::DatabaseUnavailable, "db.internal is gone");
                Ok(Status::from(error).into_http())
            }),
            Some(other) => panic!("asked to {other}"),
        }
    }
}

fn empty_message() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    let kind = "application/grpc".parse().unwrap();
    response.headers_mut().insert("content-type", kind);
    response
}
