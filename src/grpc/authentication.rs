//! Finds out who calls, before any handler is asked: by the same introspection that clients ask for.
//!
//! The rule of the method decides, as its option `authorization` says. On public methods, health and reflection the header is
//! ignored, so that an expired token can be replaced. A scope that the method needs in any space must be held in the caller's
//! own; in which space it is needed, the handler says.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{layers::CallContext, methods::Method, status::error_behind};
use crate::{
    authority::{Authority, Call, caller::Caller},
    error::{Error, Reason, Result},
    proto::MethodRule,
};

/// Puts [`Authentication`] around the services.
#[derive(Debug, Clone)]
pub struct AuthenticationLayer(Arc<Authority>);

impl AuthenticationLayer {
    /// Callers are judged by `authority`.
    pub fn new(authority: Arc<Authority>) -> Self {
        Self(authority)
    }
}

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authentication<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authentication {
            inner,
            authority: Arc::clone(&self.0),
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Authentication<S> {
    inner: S,
    authority: Arc<Authority>,
}

impl<S> Service<Request<Body>> for Authentication<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut inner = self.inner.clone();
        let method = CallContext::of(request.extensions()).map_or_else(
            || Method::at(request.uri().path()),
            |context| context.method,
        );
        let rule = match method.rule() {
            None | Some(MethodRule::Public) => {
                return Box::pin(async move { inner.call(request).await });
            }
            Some(rule) => rule,
        };
        let authority = Arc::clone(&self.authority);
        let call = call_of(request.extensions());
        let presented = presented(request.headers());
        Box::pin(async move {
            match authenticate(&authority, call, presented, method, rule).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller.clone());
                    let answer = inner.call(request).await;
                    if let Ok(response) = &answer {
                        note_refusal(&authority, &caller, method, response);
                    }
                    answer
                }
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

async fn authenticate(
    authority: &Authority,
    call: Call,
    presented: Result<HeaderValue>,
    method: &Method,
    rule: MethodRule,
) -> Result<Caller> {
    let presented = presented?;
    let token = bearer(&presented)?;
    let now = authority.clock.now();
    let Ok(good) = authority.judge(token, now).await? else {
        return Err(Error::credentials_invalid());
    };
    let credential = &good.credential;
    if !credential.is_meant_for(&authority.issuer)
        || !credential.allows_address(&call.client_address)
    {
        return Err(Error::credentials_invalid());
    }
    authority.note_use(&good, &call.client_address, now);
    let caller = Caller {
        credential: good.credential,
        position: good.position,
        call: Arc::new(call),
    };
    match allowed(&caller, rule) {
        Ok(()) => Ok(caller),
        Err(error) => {
            authority.refusals.note(&caller, short(method), &error, now);
            Err(error)
        }
    }
}

fn allowed(caller: &Caller, rule: MethodRule) -> Result<()> {
    match rule {
        MethodRule::Permission(scope) => caller.require(scope, caller.space_id()),
        MethodRule::SystemPermission(scope) if caller.in_system() => {
            caller.require(scope, caller.space_id())
        }
        MethodRule::SystemPermission(scope) => Err(Error::permission_missing(scope, "system")),
        MethodRule::Public | MethodRule::Authenticated | MethodRule::OwnOrPermission(_) => Ok(()),
    }
}

/// Notes for the audit log what a handler refused.
fn note_refusal(
    authority: &Authority,
    caller: &Caller,
    method: &Method,
    response: &Response<Body>,
) {
    let told = response.extensions().get::<Status>();
    if let Some(error) = told.and_then(error_behind) {
        let now = authority.clock.now();
        authority.refusals.note(caller, short(method), error, now);
    }
}

/// A method's name without its package: `ApiKeyService/GetApiKey`.
fn short(method: &Method) -> &str {
    let name = method.name();
    name.strip_prefix("tokenauthority.v1.").unwrap_or(name)
}

/// The one credential of a call.
fn presented(headers: &HeaderMap) -> Result<HeaderValue> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.clone()),
        (Some(_), Some(_)) => Err(Error::credentials_invalid()),
        (None, _) => Err(Error::new(
            Reason::CredentialsMissing,
            "no credential was presented",
        )),
    }
}

/// The token in it (RFC 6750 section 2.1); the scheme in any case (RFC 9110 section 11.1).
fn bearer(presented: &HeaderValue) -> Result<&str> {
    presented
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token)
        .ok_or_else(Error::credentials_invalid)
}

/// What is known of a call besides its request.
pub(super) fn call_of(extensions: &http::Extensions) -> Call {
    let context = CallContext::of(extensions);
    Call {
        request_id: context
            .map(|context| context.request_id.as_str().to_owned())
            .unwrap_or_default(),
        client_address: context
            .map(|context| context.client.to_string())
            .unwrap_or_default(),
        deadline: context.and_then(|context| context.deadline),
    }
}

/// Who calls, as authentication left it. UNAUTHENTICATED where it left nobody: a method that is not public cannot be reached
/// so.
pub(super) fn caller_of<T>(request: &tonic::Request<T>) -> Result<Caller> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(Error::credentials_invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bearer_token_is_taken() {
        let parse = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            presented(&headers)
                .and_then(|value| bearer(&value).map(str::to_owned))
                .map_err(|error| error.reason())
        };
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(parse(&[&format!("{scheme} abc")]), Ok("abc".to_owned()));
        }
        assert_eq!(parse(&[]), Err(Reason::CredentialsMissing));
        for values in [
            &["Bearer a", "Bearer b"][..],
            &["Basic abc"],
            &["abc"],
            &[""],
        ] {
            assert_eq!(parse(values), Err(Reason::CredentialsInvalid), "{values:?}");
        }
    }
}
