//! The keys, newest first, page by page.

use token_authority::proto::{self, SigningAlgorithm};
use tonic::{Code, Response, Status};

use crate::support::{Server, as_caller, both, refused};

async fn page(
    server: &Server,
    caller: &str,
    page_size: i32,
    page_token: &str,
) -> Result<proto::ListSigningKeysResponse, Status> {
    let request = proto::ListSigningKeysRequest {
        page_size,
        page_token: page_token.to_owned(),
    };
    let mut client = server.signing_keys().await;
    let page = client.list_signing_keys(as_caller(caller, request));
    page.await.map(Response::into_inner)
}

both!(pages_are_all_there_is_newest_first, async |server| {
    let admin = server.admin().await.access_token;
    for number in 0..9 {
        // Some at the same moment.
        server
            .clock
            .advance(std::time::Duration::from_secs(number % 2));
        server
            .prepare(&admin, SigningAlgorithm::Eddsa)
            .await
            .unwrap();
    }
    let all = page(server, &admin, 0, "").await.unwrap();
    assert_eq!((all.signing_keys.len(), &*all.next_page_token), (11, ""));
    let times: Vec<_> = all
        .signing_keys
        .iter()
        .map(|key| key.prepare_time.unwrap())
        .map(|time| (time.seconds, time.nanos))
        .collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    for size in [1, 2, 5, 10, 11, 500] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = page(server, &admin, size, &token).await.unwrap();
            assert!(page.signing_keys.len() <= usize::try_from(size).unwrap());
            listed.extend(page.signing_keys);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, all.signing_keys, "{size}");
    }
});

both!(pages_that_cannot_be_are_refused, async |server| {
    let admin = server.admin().await.access_token;
    for size in [-1, 501] {
        let refusal = page(server, &admin, size, "").await;
        refused(refusal, Code::InvalidArgument, "FIELD_INVALID");
    }
    let next = page(server, &admin, 1, "").await.unwrap().next_page_token;
    let changed = format!("{next}A");
    for token in ["x", "🦀", &changed] {
        let refusal = page(server, &admin, 1, token).await;
        refused(refusal, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
});
