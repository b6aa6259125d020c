//! `/.well-known/jwks.json`: the public keys (RFC 7517), for whoever verifies tokens.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::watch;

/// How long a copy may be used: 5 minutes.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// The key set as it is served.
#[derive(Debug, Clone)]
pub struct JwksDocument {
    json: Bytes,
    etag: HeaderValue,
}

/// Where the key set of the moment is found; none before the first is known.
pub type JwksSource = watch::Receiver<Option<Arc<JwksDocument>>>;

impl JwksDocument {
    /// The document `json`, and its digest for an `ETag`.
    pub fn new(json: String) -> Self {
        let digest = URL_SAFE_NO_PAD.encode(digest(&SHA256, json.as_bytes()));
        // base64url always makes a header; without one a copy is merely fetched again.
        let etag = HeaderValue::try_from(format!("\"{digest}\""))
            .unwrap_or(HeaderValue::from_static("\"\""));
        Self {
            json: json.into(),
            etag,
        }
    }
}

/// The route.
pub fn routes(source: JwksSource) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .with_state(source)
}

async fn jwks(State(source): State<JwksSource>, headers: HeaderMap) -> Response {
    let Some(document) = source.borrow().clone() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let known = [
        (header::ETAG, document.etag.clone()),
        (header::CACHE_CONTROL, CACHE_CONTROL),
    ];
    if has(&headers, &document.etag) {
        return (StatusCode::NOT_MODIFIED, known).into_response();
    }
    (
        known,
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        document.json.clone(),
    )
        .into_response()
}

/// Whether the client has this version already (RFC 9110 section 13.1.2).
fn has(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_client_that_has_the_key_set_is_told_so() {
        let (sender, source) = watch::channel(None);
        let asked = |etag: Option<HeaderValue>| {
            let mut request = Request::get("/.well-known/jwks.json");
            if let Some(etag) = etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            routes(source.clone()).oneshot(request.body(Body::empty()).unwrap())
        };
        assert_eq!(
            asked(None).await.unwrap().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );

        sender.send_replace(Some(Arc::new(JwksDocument::new(
            "{\"keys\":[]}".to_owned(),
        ))));
        let response = asked(None).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()[header::CACHE_CONTROL],
            "public, max-age=300"
        );
        let etag = response.headers()[header::ETAG].clone();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "{\"keys\":[]}");

        let again = asked(Some(etag)).await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
}
