//! What ends a stream: every change of what its reader may see, and the end of the server.

use std::time::Duration;

use token_authority::{
    domain::{
        ids::{RoleName, SpaceId, UserId},
        permission,
    },
    proto::{
        self, RevokeTokenRequest, WatchRevocationsRequest, revocation_subject::Subject,
        watch_revocations_response::Message,
    },
};
use tonic::Code;

use crate::support::{
    Engine, PASSWORD, Server, TestDatabase, Watching, as_caller, both, events_of, reason,
};

/// A user who may watch one space.
struct Watcher {
    space: SpaceId,
    user: UserId,
    role: RoleName,
    token: proto::IssuedToken,
    watching: Watching,
}

impl Watcher {
    async fn new(server: &Server, name: &str) -> Self {
        let space = server.space(name).await;
        let user = server.user(&space, name).await;
        let role = server
            .role(&space, "watcher", &[permission::REVOCATIONS_WATCH])
            .await;
        server.assign(&space, &user, "watcher").await;
        let token = server.sign_in(name, PASSWORD, "").await;
        let mut watching = Watching::after(server, &token.access_token, "").await;
        watching.until_caught_up().await;
        Self {
            space,
            user,
            role,
            token,
            watching,
        }
    }
}

both!(a_stream_ends_when_the_role_is_taken_away, async |server| {
    let mut watcher = Watcher::new(server, "acme").await;
    let operator = server.operator().await;
    operator
        .unassign(&watcher.space, &watcher.user, "watcher")
        .await;
    assert!(watcher.watching.closes().await);
});

both!(a_stream_ends_when_the_role_grants_less, async |server| {
    let mut watcher = Watcher::new(server, "acme").await;
    let operator = server.operator().await;
    operator
        .set_permissions(&watcher.space, "watcher", &[])
        .await;
    assert!(watcher.watching.closes().await);
});

both!(a_stream_ends_when_the_user_is_disabled, async |server| {
    let mut watcher = Watcher::new(server, "acme").await;
    let operator = server.operator().await;
    operator.set_disabled(&watcher.user, true).await;
    assert!(watcher.watching.closes().await);
});

both!(a_stream_ends_when_its_token_is_revoked, async |server| {
    let admin = server.admin().await.access_token;
    for number in 0..4 {
        let mut watcher = Watcher::new(server, &format!("space-{number}")).await;
        let space = watcher.space.to_string();
        let subject = match number {
            0 => Subject::TokenId(watcher.token.token_id.clone()),
            1 => Subject::SessionId(watcher.token.session_id.clone()),
            2 => Subject::UserId(watcher.user.to_string()),
            _ => Subject::Role(watcher.role.to_string()),
        };
        server
            .revoke_by_reference(&admin, subject, &space)
            .await
            .unwrap();
        assert!(watcher.watching.closes().await, "{number}");
    }
});

both!(a_stream_ends_when_its_token_is_given_up, async |server| {
    let mut watcher = Watcher::new(server, "acme").await;
    let request = RevokeTokenRequest {
        token: watcher.token.access_token.clone(),
        wait: None,
    };
    server.tokens().await.revoke_token(request).await.unwrap();
    assert!(watcher.watching.closes().await);
});

both!(a_stream_ends_when_its_api_key_ends, async |server| {
    let admin = server.admin().await.access_token;
    let watcher = Watcher::new(server, "acme").await;
    let scopes = [permission::REVOCATIONS_WATCH];
    let key = server
        .api_key(&admin, &watcher.space, &watcher.user, &scopes)
        .await;
    let mut watching = Watching::after(server, &key.api_key_token, "").await;
    watching.until_caught_up().await;
    let request = proto::RevokeApiKeyRequest {
        api_key_id: key.api_key.unwrap().api_key_id,
        ..Default::default()
    };
    let mut keys = server.api_keys().await;
    keys.revoke_api_key(as_caller(&admin, request))
        .await
        .unwrap();
    assert!(watching.closes().await);
});

both!(a_stream_ends_when_its_token_expires, async |server| {
    let mut watcher = Watcher::new(server, "acme").await;
    server.clock.advance(Duration::from_hours(25));
    assert!(watcher.watching.closes().await);
});

both!(a_stream_of_somebody_else_goes_on, async |server| {
    let admin = server.admin().await.access_token;
    let mut watcher = Watcher::new(server, "acme").await;
    let other = server.user(&watcher.space, "other").await;
    let subject = Subject::UserId(other.to_string());
    let cut = server
        .revoke_by_reference(&admin, subject, "acme")
        .await
        .unwrap();
    let position = cut.effect.unwrap().position;
    let events = events_of(&watcher.watching.until_position(position).await);
    assert_eq!(events, [cut.event.unwrap()]);
});

/// The end of the server cannot be had by reference: each engine by itself.
async fn streams_end_with_the_server(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let mut watching = Watching::after(&server, &admin, "").await;
    watching.until_caught_up().await;
    let (closing, _) = tokio::join!(watching.closes(), server.stop());
    assert!(closing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_the_server_drains_sqlite() {
    streams_end_with_the_server(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_the_server_drains_postgres() {
    streams_end_with_the_server(Engine::Postgres).await;
}

both!(a_tenant_sees_nothing_of_another, async |server| {
    let admin = server.admin().await.access_token;
    let mut watcher = Watcher::new(server, "acme").await;
    let other = server.space("other").await;
    let bob = server.user(&other, "bob").await;
    let role = server.role(&other, "secret-role", &["demo.read"]).await;
    server.assign(&other, &bob, role.as_str()).await;
    let key = server.api_key(&admin, &other, &bob, &[]).await;
    let key_id = key.api_key.unwrap().api_key_id;
    let issued = server.sign_in("bob", PASSWORD, "").await;
    for (subject, space) in [
        (Subject::TokenId(issued.token_id.clone()), "other"),
        (Subject::SessionId(issued.session_id.clone()), "other"),
        (Subject::Role(role.to_string()), "other"),
        (Subject::UserId(bob.to_string()), "other"),
        (Subject::ApiKeyId(key_id.clone()), ""),
        (Subject::SpaceId(other.to_string()), ""),
    ] {
        server
            .revoke_by_reference(&admin, subject, space)
            .await
            .unwrap();
    }
    let own = Subject::TokenId("own".to_owned());
    let own = server
        .revoke_by_reference(&admin, own, "acme")
        .await
        .unwrap();
    let position = own.effect.unwrap().position;
    let messages = watcher.watching.until_position(position).await;
    let events = events_of(&messages);
    assert_eq!(events, [own.event.unwrap()], "its own alone");
    let told = format!("{messages:?}");
    for foreign in [
        bob.as_str(),
        other.as_str(),
        role.as_str(),
        &key_id,
        &issued.token_id,
        &issued.session_id,
    ] {
        assert!(!told.contains(foreign), "{foreign}");
    }
});

both!(no_entry_holds_a_secret, async |server| {
    let admin = server.admin().await.access_token;
    let watcher = Watcher::new(server, "acme").await;
    let key = server
        .api_key(&admin, &watcher.space, &watcher.user, &[])
        .await;
    for token in [&key.api_key_token, &watcher.token.access_token] {
        let request = RevokeTokenRequest {
            token: token.clone(),
            wait: None,
        };
        server.tokens().await.revoke_token(request).await.unwrap();
    }
    let mut watching = Watching::after(server, &admin, "").await;
    let messages = watching.until_caught_up().await;
    assert!(events_of(&messages).len() >= 2);
    let told = format!("{messages:?}");
    let secret = key.api_key_token.rsplit('_').next().unwrap();
    let signature = watcher.token.access_token.rsplit('.').next().unwrap();
    for hidden in [secret, signature, PASSWORD] {
        assert!(!told.contains(hidden));
    }
});

both!(
    a_space_that_may_not_be_watched_is_not_found,
    async |server| {
        let watcher = Watcher::new(server, "acme").await;
        server.space("other").await;
        for space in ["other", "system", "nowhere"] {
            let request = WatchRevocationsRequest {
                spaces: vec![space.to_owned()],
                ..Default::default()
            };
            let token = &watcher.token.access_token;
            let status = Watching::open(server, token, request).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "{space}");
            assert_eq!(reason(&status), "RESOURCE_NOT_FOUND");
        }
    }
);

both!(
    a_stream_says_what_it_covers_and_shows_no_other_space,
    async |server| {
        let admin = server.admin().await.access_token;
        let (acme, other) = (server.space("acme").await, server.space("other").await);
        let ann = server.user(&acme, "ann").await;
        let token = |number: usize| Subject::TokenId(format!("token-{number}"));
        for (number, space) in ["acme", "other", "", "acme"].into_iter().enumerate() {
            server
                .revoke_by_reference(&admin, token(number), space)
                .await
                .unwrap();
        }
        let everywhere = Subject::UserId(ann.to_string());
        server
            .revoke_by_reference(&admin, everywhere, "*")
            .await
            .unwrap();
        for (spaces, covered, shown) in [
            (vec![], vec![], 5),
            (vec!["acme"], vec![acme.to_string()], 3),
            (vec![other.as_str()], vec![other.to_string()], 2),
            (vec!["other", "acme", "acme"], sorted(&acme, &other), 4),
        ] {
            let request = WatchRevocationsRequest {
                spaces: spaces.into_iter().map(str::to_owned).collect(),
                ..Default::default()
            };
            let mut watching = Watching::open(server, &admin, request).await.unwrap();
            let messages = watching.until_caught_up().await;
            let Some(Message::Started(started)) = &messages[0].message else {
                panic!("the first message says what is covered");
            };
            assert_eq!(started.space_ids, covered);
            assert_eq!(events_of(&messages).len(), shown, "{covered:?}");
        }
    }
);

fn sorted(one: &SpaceId, other: &SpaceId) -> Vec<String> {
    let mut both = vec![one.to_string(), other.to_string()];
    both.sort();
    both
}
