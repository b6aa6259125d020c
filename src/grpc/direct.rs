//! A way around the router for the service that is called most: what finding a route costs is a good part of an introspection.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{body::Body, server::NamedService};
use tower::{Layer, Service};

/// Puts [`Direct`] before the router.
#[derive(Debug, Clone)]
pub struct DirectLayer<D>(D);

impl<D> DirectLayer<D> {
    /// Calls of `direct` do not go through the router.
    pub fn new(direct: D) -> Self {
        Self(direct)
    }
}

impl<D: Clone, S> Layer<S> for DirectLayer<D> {
    type Service = Direct<D, S>;

    fn layer(&self, others: S) -> Self::Service {
        Direct {
            direct: self.0.clone(),
            others,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Direct<D, S> {
    direct: D,
    others: S,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<D, S> Service<Request<Body>> for Direct<D, S>
where
    D: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>,
    D: NamedService,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_of(request.uri().path(), D::NAME) {
            self.direct.call(request)
        } else {
            Box::pin(self.others.call(request))
        }
    }
}

/// Whether a path such as `/tokenauthority.v1.TokenService/IssueToken` is a method of `service`.
fn is_of(path: &str, service: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(service))
        .is_some_and(|method| method.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_methods_of_a_service_are_its_own() {
        for (path, own) in [
            ("/a.v1.Tokens/Issue", true),
            ("/a.v1.Tokens/Unknown", true),
            ("/a.v1.TokensToo/Issue", false),
            ("/a.v1.Keys/Issue", false),
            ("/a.v1.Tokens", false),
            ("a.v1.Tokens/Issue", false),
            ("", false),
        ] {
            assert_eq!(is_of(path, "a.v1.Tokens"), own, "{path:?}");
        }
    }
}
