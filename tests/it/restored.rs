//! A log that begins anew: after a backup was restored, and after a failover that may have lost its end.

use token_authority::{
    clock::Clock,
    proto::{self, revocation_subject::Subject, token_service_client::TokenServiceClient},
    server::{self, Kept},
};
use tonic::Code;

use crate::support::{
    Engine, PASSWORD, Process, Server, TestDatabase, Watching, as_caller, both, eventually,
    introspect_request, key, postgres, reason, settings,
};

/// What an authority has given out: an admin's token, an API key, and a cursor.
struct Given {
    admin: proto::IssuedToken,
    api_key: String,
    cursor: String,
}

async fn given(server: &Server) -> Given {
    let admin = server.admin().await;
    let (_, api_key) = server.made_key(&admin.access_token, key(&[])).await;
    let subject = Subject::SessionId("some".to_owned());
    let revoked = server
        .revoke_by_reference(&admin.access_token, subject, "")
        .await;
    Given {
        cursor: revoked.unwrap().effect.unwrap().cursor,
        api_key,
        admin,
    }
}

async fn restored(engine: Engine, kept: Kept) {
    let Some(database) = TestDatabase::create(engine).await else {
        return;
    };
    let server = Server::start(database).await;
    let given = given(&server).await;
    let before = server.authority.log.catch_up().await.unwrap().position;
    let (database, data) = server.stop().await;
    let clock = Clock::system();
    // Twice, as somebody does who was not sure: each begins the log anew.
    for _ in 0..2 {
        server::restore(&settings(&database, &data), kept, &clock)
            .await
            .unwrap();
    }
    let server = Server::start_in(database, data, clock, |_| {}).await;
    let admin = server.admin().await.access_token;
    let old = server.introspect(&admin, &given.admin.access_token).await;
    assert!(!old.active(), "what was issued before is dead");
    let of_key = server.introspect(&admin, &given.api_key).await;
    assert_eq!(of_key.active(), kept.api_keys);
    // The first entry, and one for each signing key that was replaced, the second time.
    let least = before.0 + (2 << 32) + 2 + 2;
    eventually("every entry has its place", async || {
        let read = server.authority.log.catch_up().await;
        read.unwrap().position.0 >= least
    })
    .await;
    let after = server.authority.log.catch_up().await.unwrap().position;
    let request = proto::IntrospectTokenRequest {
        token: admin.clone(),
        min_cursor: given.cursor,
        ..Default::default()
    };
    let told = server
        .tokens()
        .await
        .introspect_token(as_caller(&admin, request))
        .await;
    let refused = told.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "CURSOR_FOREIGN");
    // It is a log like any other: it grows, and is streamed from its floor across the gap.
    let token = server.sign_in("admin", &server.admin_password, "").await;
    let subject = Subject::SessionId(token.session_id.clone());
    let revoked = server
        .revoke_by_reference(&admin, subject, "")
        .await
        .unwrap();
    let effect = revoked.effect.unwrap();
    assert_eq!(effect.position, after.0 + 1);
    assert!(
        !server
            .introspect(&admin, &token.access_token)
            .await
            .active()
    );
    let mut watching = Watching::after(&server, &admin, "").await;
    watching.until_position(effect.position).await;
    drop(watching);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_restored_backup_is_alive_sqlite() {
    restored(Engine::Sqlite, Kept { api_keys: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_restored_backup_is_alive_postgres() {
    restored(Engine::Postgres, Kept { api_keys: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_keys_of_a_restored_backup_are_kept_where_asked() {
    restored(Engine::Sqlite, Kept { api_keys: true }).await;
}

both!(
    a_backup_is_not_restored_under_a_running_server,
    async |server| {
        let settings = settings(&server.database, &server.data);
        let refused = server::restore(&settings, Kept { api_keys: false }, &server.clock).await;
        let refused = refused.unwrap_err().to_string();
        let expected = match server.database.engine() {
            Engine::Sqlite => "is in use by another process",
            Engine::Postgres => "a server runs over this database",
        };
        assert!(refused.contains(expected), "{refused}");
        let admin = server.admin().await.access_token;
        assert!(server.introspect(&admin, &admin).await.active());
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_stopped_while_a_backup_was_restored_answers_by_what_is_so_now() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let old = server.admin().await.access_token;
    let (database, data) = server.stop().await;
    let process = Process::start_at_last(&database, data.path(), &[]).await;
    let channel = process.connect().await;
    let ask = async || {
        let request = as_caller(&old, introspect_request(&old));
        let mut client = TokenServiceClient::new(channel.clone());
        client.introspect_token(request).await
    };
    assert!(ask().await.is_ok());
    process.pause();
    let kept = Kept { api_keys: true };
    let settings = settings(&database, &data);
    server::restore(&settings, kept, &Clock::system())
        .await
        .unwrap();
    process.go_on();
    for _ in 0..100 {
        assert!(ask().await.is_err(), "its own caller is dead");
    }
    eventually("it has read what is so now", async || {
        ask().await.unwrap_err().code() == Code::Unauthenticated
    })
    .await;
}

/// A standby that takes over has another timeline, and may lack the end of the log. Here only the authority's memory of the
/// timeline is changed, and the last entry taken away under two running servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_that_lost_the_end_of_the_log_nothing_outranks_what_comes() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let other = server.beside().await;
    let admin = server.admin().await.access_token;
    let acme = server.space("acme").await;
    server.user(&acme, "ann").await;
    let revoke_ann = async |server: &Server| {
        let subject = Subject::UserId("ann".to_owned());
        let revoked = server.revoke_by_reference(&admin, subject, "acme").await;
        revoked.unwrap().effect.unwrap()
    };
    let lost = revoke_ann(&server).await.position;
    // As high as a token can be.
    let ann = server.sign_in("ann", PASSWORD, "").await.access_token;
    assert!(other.introspect(&admin, &ann).await.active());
    let mut connection = postgres(&server.database).await.unwrap();
    // There and back again.
    for times in 1..=2_u64 {
        for sql in [
            "DELETE FROM revocation_log WHERE position = (SELECT max(position) FROM revocation_log)",
            "UPDATE authority SET timeline = timeline + 7",
        ] {
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
        eventually("the log begins anew everywhere", async || {
            let mut raised = true;
            for server in [&server, &other] {
                let read = server.authority.log.catch_up().await;
                raised &= read.is_ok_and(|read| read.position.0 > lost + (times << 32) - 10);
            }
            raised
        })
        .await;
        revoke_ann(&server).await;
    }
    let effect = revoke_ann(&server).await;
    assert_eq!(effect.effective, Some(true));
    for server in [&server, &other] {
        assert!(
            !server.introspect(&admin, &ann).await.active(),
            "revoked and active"
        );
        assert!(server.introspect(&admin, &admin).await.active());
    }
    let new = other.sign_in("ann", PASSWORD, "").await.access_token;
    assert!(server.introspect(&admin, &new).await.active());
    other.stop().await;
    server.stop().await;
}
