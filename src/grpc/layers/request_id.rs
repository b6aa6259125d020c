//! Names every call, and tells the client the name.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderName, Request, Response};
use tower::Service;

use super::context::{CallContext, RequestId};
use crate::{connections::ClientAddress, grpc::methods::Method};

/// The header that carries the name, both ways.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// See the module.
#[derive(Debug, Clone)]
pub struct RequestIds<S> {
    inner: S,
}

impl<S> RequestIds<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, R> Service<Request<B>> for RequestIds<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Named<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let request_id = request
            .headers()
            .get(HEADER)
            .and_then(RequestId::from_client)
            .unwrap_or_else(RequestId::next);
        let context = CallContext {
            request_id: request_id.clone(),
            client: client_of(&request),
            method: Method::at(request.uri().path()),
            deadline: None,
        };
        request.extensions_mut().insert(context);
        Named {
            call: self.inner.call(request),
            request_id,
        }
    }
}

/// Whoever accepts connections puts the address there; calls within the process have none.
fn client_of<B>(request: &Request<B>) -> ClientAddress {
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    request
        .extensions()
        .get()
        .copied()
        .unwrap_or(ClientAddress::new(nobody))
}

/// A call under way.
#[derive(Debug)]
pub struct Named<F> {
    call: F,
    request_id: RequestId,
}

impl<F, R> Future for Named<F>
where
    F: Future<Output = Result<Response<R>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut response) = ready!(Pin::new(&mut self.call).poll(cx));
        response
            .headers_mut()
            .insert(HEADER, self.request_id.to_header());
        Poll::Ready(Ok(response))
    }
}
