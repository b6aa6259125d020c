//! Cursors and page tokens with one character changed, cut off or put behind: none is taken for another place.

use token_authority::proto::{self, revocation_subject::Subject};
use tonic::{Code, Response, Status};

use crate::support::{Server, Watching, as_caller, both, introspect_request, key, refused};

/// Every text that is nearly `good`.
fn garbled(good: &str) -> Vec<String> {
    let mut texts = vec![
        good[1..].to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("{good}A"),
        format!("{good}="),
        format!("{good}\0"),
        format!(" {good}"),
        good.repeat(2),
        good.to_uppercase(),
        good.to_lowercase(),
        "\u{301}".to_owned(),
        "A".repeat(60_000),
    ];
    for place in 0..good.len() {
        let mut bytes = good.as_bytes().to_vec();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        texts.push(String::from_utf8(bytes).unwrap());
    }
    texts
}

async fn revocations(
    server: &Server,
    caller: &str,
    page_token: &str,
) -> Result<proto::ListRevocationsResponse, Status> {
    let request = proto::ListRevocationsRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let mut revocations = server.revocations().await;
    let page = revocations.list_revocations(as_caller(caller, request));
    page.await.map(Response::into_inner)
}

async fn keys(
    server: &Server,
    caller: &str,
    page_token: &str,
) -> Result<proto::ListApiKeysResponse, Status> {
    let request = proto::ListApiKeysRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    server.list_keys(caller, request).await
}

both!(
    a_garbled_place_is_refused_wherever_it_is_taken,
    async |server| {
        let admin = server.admin().await.access_token;
        for number in 0..3 {
            let session = Subject::SessionId(format!("session-{number}"));
            let created = server.revoke_by_reference(&admin, session, "").await;
            created.unwrap();
            server.made_key(&admin, key(&[])).await;
        }
        let first = revocations(server, &admin, "").await.unwrap();
        revocations(server, &admin, &first.next_page_token)
            .await
            .unwrap();
        for text in garbled(&first.next_page_token) {
            let page = revocations(server, &admin, &text).await;
            refused(page, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
        let of_keys = keys(server, &admin, "").await.unwrap().next_page_token;
        keys(server, &admin, &of_keys).await.unwrap();
        for text in garbled(&of_keys) {
            let page = keys(server, &admin, &text).await;
            refused(page, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
        for text in garbled(&first.cursor) {
            let request = proto::WatchRevocationsRequest {
                start_cursor: text.clone(),
                ..Default::default()
            };
            let opened = Watching::open(server, &admin, request).await;
            refused(opened, Code::InvalidArgument, "CURSOR_INVALID");
            let request = proto::IntrospectTokenRequest {
                min_cursor: text,
                ..introspect_request(&admin)
            };
            let told = server.judge(&admin, request).await;
            refused(told, Code::InvalidArgument, "CURSOR_INVALID");
        }
        for foreign in [&of_keys, &admin] {
            let page = revocations(server, &admin, foreign).await;
            refused(page, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
    }
);
