//! The entries in force, page by page.

use token_authority::proto::{self, revocation_subject::Subject};
use tonic::{Code, Response, Status};

use crate::support::{Server, Watching, as_caller, both, events_of, reason};

async fn page(
    server: &Server,
    caller: &str,
    spaces: &[&str],
    page_size: i32,
    page_token: &str,
) -> Result<proto::ListRevocationsResponse, Status> {
    let request = proto::ListRevocationsRequest {
        spaces: spaces.iter().map(|&space| space.to_owned()).collect(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let mut revocations = server.revocations().await;
    let page = revocations.list_revocations(as_caller(caller, request));
    page.await.map(Response::into_inner)
}

/// Entries in two spaces, and of every space.
async fn some_entries(server: &Server, admin: &str) {
    let acme = server.space("acme").await;
    server.user(&acme, "ann").await;
    for number in 0..25 {
        let token = Subject::TokenId(format!("token-{number}"));
        let space = ["", "acme"][number % 2];
        server
            .revoke_by_reference(admin, token, space)
            .await
            .unwrap();
        if number % 10 == 0 {
            let user = Subject::UserId("ann".to_owned());
            server.revoke_by_reference(admin, user, "*").await.unwrap();
        }
    }
}

both!(pages_equal_the_stream, async |server| {
    let admin = server.admin().await.access_token;
    some_entries(server, &admin).await;
    for spaces in [&[][..], &["acme"], &["acme", "system"]] {
        let request = proto::WatchRevocationsRequest {
            spaces: spaces.iter().map(|&space| space.to_owned()).collect(),
            ..Default::default()
        };
        let mut watching = Watching::open(server, &admin, request.clone())
            .await
            .unwrap();
        let streamed = events_of(&watching.until_caught_up().await);
        assert!(streamed.len() > 10);
        for page_size in [0, 1, 7, 10_000] {
            let (mut listed, mut token) = (Vec::new(), String::new());
            let cursor = loop {
                let page = page(server, &admin, spaces, page_size, &token)
                    .await
                    .unwrap();
                assert!(page_size == 0 || page.events.len() <= usize::try_from(page_size).unwrap());
                listed.extend(page.events);
                token = page.next_page_token;
                if token.is_empty() {
                    break page.cursor;
                }
            };
            assert_eq!(listed, streamed, "pages of {page_size} over {spaces:?}");
            let resumed = proto::WatchRevocationsRequest {
                start_cursor: cursor,
                ..request.clone()
            };
            let mut resumed = Watching::open(server, &admin, resumed).await.unwrap();
            assert!(events_of(&resumed.until_caught_up().await).is_empty());
        }
    }
});

both!(a_page_token_of_something_else_is_refused, async |server| {
    let admin = server.admin().await.access_token;
    some_entries(server, &admin).await;
    let first = page(server, &admin, &[], 3, "").await.unwrap();
    for (what, spaces, token) in [
        ("made up", &[][..], "made-up".to_owned()),
        ("of other spaces", &["acme"][..], first.next_page_token),
    ] {
        let status = page(server, &admin, spaces, 3, &token).await;
        let status = status.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}");
        assert_eq!(reason(&status), "PAGE_TOKEN_INVALID", "{what}");
    }
    for page_size in [-1, 10_001] {
        let status = page(server, &admin, &[], page_size, "").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
});
