//! Refuses metadata that gRPC does not allow: text that is not printable ASCII, `-bin` values that are not base64, more
//! fields than anybody needs, and requests that are of another type.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE,
};
use tokio_util::either::Either;
use tonic::Status;
use tower::Service;

use crate::error::{Error, Result};

/// The most fields of a request.
const FIELDS_MAX: usize = 256;

/// See the module.
#[derive(Debug, Clone)]
pub struct Metadata<S> {
    inner: S,
}

impl<S> Metadata<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, R> Service<Request<B>> for Metadata<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: Default,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<R>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !is_grpc(request.headers()) {
            let mut response = refusal(Error::field(
                "metadata.content-type",
                "must be application/grpc",
            ));
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Either::Right(ready(Ok(response)));
        }
        match check(request.headers()) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(error) => Either::Right(ready(Ok(refusal(error)))),
        }
    }
}

fn refusal<R: Default>(error: Error) -> Response<R> {
    Status::from(error).into_http()
}

/// Whether the type is gRPC's, with or without the name of an encoding behind it.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn check(headers: &HeaderMap) -> Result<()> {
    if headers.len() > FIELDS_MAX {
        return Err(Error::field("metadata", "must be at most 256 fields"));
    }
    for (name, value) in headers {
        check_field(name, value)?;
    }
    Ok(())
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<()> {
    let (good, rule) = if name.as_str().ends_with("-bin") {
        let good = value.as_bytes().split(|byte| *byte == b',').all(is_base64);
        (good, "must be base64")
    } else {
        // To the end whatever it finds: many bytes at a time are faster than stopping at one.
        let printable = |good: bool, byte: &u8| good & matches!(byte, b' '..=b'~');
        let good = value.as_bytes().iter().fold(true, printable);
        (good, "must be printable ASCII")
    };
    if good {
        return Ok(());
    }
    Err(Error::field(format!("metadata.{name}"), rule))
}

/// RFC 4648 section 4, with or without padding, as gRPC takes it; white space may stand around it in a list.
fn is_base64(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let unpadded = text.strip_suffix(b"=").unwrap_or(text);
    let unpadded = unpadded.strip_suffix(b"=").unwrap_or(unpadded);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let whole = text.len() == unpadded.len() || text.len().is_multiple_of(4);
    whole && unpadded.len() % 4 != 1 && unpadded.iter().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_what_grpc_allows() {
        for (name, value, good) in [
            ("x-text", &b"a b~"[..], true),
            ("x-text", b"", true),
            ("x-text", b"caf\xc3\xa9", false),
            ("x-text", b"a\tb", false),
            ("x-some-bin", b"", true),
            ("x-some-bin", b"AAE=", true),
            ("x-some-bin", b"AAE", true),
            ("x-some-bin", b"AAE=, AA==", true),
            ("x-some-bin", b"A", false),
            ("x-some-bin", b"A=", false),
            ("x-some-bin", b"AA-_", false),
            ("x-some-bin", b"\xff\xff", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
            assert_eq!(check(&headers).is_ok(), good, "{name}: {value:?}");
        }
        let mut headers = HeaderMap::new();
        for _ in 0..=FIELDS_MAX {
            headers.append("x", HeaderValue::from_static("y"));
        }
        assert!(check(&headers).is_err());
    }
}
