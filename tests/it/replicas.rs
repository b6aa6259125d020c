//! Several servers over one PostgreSQL database: what is revoked at one is dead at all, and who cannot know says so.

use std::time::{Duration, Instant};

use sqlx::{Executor as _, PgConnection};
use token_authority::{
    background::Background,
    clock::Clock,
    proto::{self, revocation_subject::Subject, system_service_client::SystemServiceClient},
    server,
};
use tonic::Code;

use crate::support::{
    Engine, Process, Server, TestDatabase, as_caller, data_beside, eventually, postgres,
    revocation_of, settings, span,
};

/// Three servers over one database, and a connection to it; nothing where there is no PostgreSQL.
pub(crate) async fn three(test: impl AsyncFnOnce([&Server; 3], PgConnection)) {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let first = Server::start(database).await;
    let (second, third) = tokio::join!(Box::pin(first.beside()), Box::pin(first.beside()));
    let connection = postgres(&first.database).await.unwrap();
    test([&first, &second, &third], connection).await;
    third.stop().await;
    second.stop().await;
    first.stop().await;
}

async fn list(server: &Server, admin: &str) -> Vec<proto::Replica> {
    let mut system = SystemServiceClient::new(server.connect().await);
    let request = as_caller(admin, proto::ListReplicasRequest {});
    let listed = system.list_replicas(request).await.unwrap();
    listed.into_inner().replicas
}

/// Those that are listed and not fenced, `count` of them. Where somebody is fenced, since the machine stood still for longer than
/// a lease lasts, it is about to come back.
async fn standing(server: &Server, admin: &str, count: usize) -> Vec<proto::Replica> {
    let mut standing = Vec::new();
    eventually("those are back that were fenced", async || {
        let listed = list(server, admin).await;
        let all = listed.len();
        standing = listed;
        standing.retain(|replica| !replica.fenced);
        if standing.len() == all {
            assert_eq!(all, count, "{standing:?}");
        }
        standing.len() == count
    })
    .await;
    standing
}

/// Waits for as long as one may.
pub(crate) async fn revoke_session(
    server: &Server,
    admin: &str,
    session: &str,
) -> proto::RevocationEffect {
    let request = proto::CreateRevocationRequest {
        wait: span(30),
        ..revocation_of(Subject::SessionId(session.to_owned()), "")
    };
    let mut revocations = server.revocations().await;
    let created = revocations.create_revocation(as_caller(admin, request));
    created.await.unwrap().into_inner().effect.unwrap()
}

/// Something is revoked while each of three servers counts. It is done once more where one did not: a machine that stands still
/// for longer than a lease lasts has it fenced.
async fn with_all_three(mut revoke: impl AsyncFnMut() -> proto::RevocationEffect) {
    for _ in 0..5 {
        let effect = revoke().await;
        assert_eq!(effect.effective, Some(true));
        assert_eq!(effect.replicas_applied, effect.replicas_total);
        if effect.replicas_total == 3 {
            return;
        }
    }
    panic!("again and again one of three servers does not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_revokes_is_dead_at_all_of_them() {
    three(async |servers, _| {
        let admin = servers[0].admin().await.access_token;
        for round in 0..30 {
            with_all_three(async || {
                let token = servers[round % 3].admin().await;
                for server in servers {
                    let told = server.introspect(&admin, &token.access_token).await;
                    assert!(told.active());
                }
                let revoker = servers[(round + 1) % 3];
                let effect = revoke_session(revoker, &admin, &token.session_id).await;
                for server in servers {
                    let told = server.introspect(&admin, &token.access_token).await;
                    assert!(!told.active());
                }
                effect
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_one_server_is_waited_for_by_the_others() {
    three(async |servers, _| {
        let admin = servers[0].admin().await.access_token;
        for round in 0..30 {
            let token = servers[0].admin().await;
            let request = proto::CreateRevocationRequest {
                wait: Some(prost_types::Duration::default()),
                ..revocation_of(Subject::SessionId(token.session_id.clone()), "")
            };
            let mut revocations = servers[round % 3].revocations().await;
            let created = revocations
                .create_revocation(as_caller(&admin, request))
                .await;
            let effect = created.unwrap().into_inner().effect.unwrap();
            assert!(
                !effect.cursor.is_empty(),
                "it has its place, however short the wait"
            );
            let request = proto::IntrospectTokenRequest {
                token: token.access_token.clone(),
                min_cursor: effect.cursor,
                ..Default::default()
            };
            let mut tokens = servers[(round + 1) % 3].tokens().await;
            let told = tokens.introspect_token(as_caller(&admin, request)).await;
            assert!(!told.unwrap().into_inner().introspection.unwrap().active());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_is_listed_and_leaves_when_it_ends() {
    three(async |servers, _| {
        let admin = servers[0].admin().await.access_token;
        let listed = standing(servers[1], &admin, 3).await;
        assert!(listed[0].self_ && !listed[1].self_ && !listed[2].self_);
        assert!(listed.iter().all(|replica| !replica.name.is_empty()));
        let another = servers[0].beside().await;
        standing(servers[2], &admin, 4).await;
        another.stop().await;
        standing(servers[2], &admin, 3).await;
        with_all_three(async || {
            let token = servers[0].admin().await;
            revoke_session(servers[0], &admin, &token.session_id).await
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_together_on_an_empty_database_are_one_authority() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    std::fs::write(
        data.path().join("bootstrap-password"),
        "plum kettle orbits 47 lanterns",
    )
    .unwrap();
    std::fs::write(
        data.path().join("master-key"),
        "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
    )
    .unwrap();
    for file in ["bootstrap-password", "master-key"] {
        use std::os::unix::fs::PermissionsExt as _;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(data.path().join(file), owner_only).unwrap();
    }
    let clock = token_authority::clock::Clock::system();
    let start = |data| Server::start_in(database.shared(), data, clock.clone(), |_| {});
    let (one, two, three) = tokio::join!(
        start(data_beside(&data)),
        start(data_beside(&data)),
        start(data_beside(&data))
    );
    let admin = one.admin().await.access_token;
    for server in [&one, &two, &three] {
        assert!(server.introspect(&admin, &admin).await.active());
        standing(server, &admin, 3).await;
    }
    for server in [one, two, three] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_waits_for_a_server_that_was_killed_and_for_no_longer_than_its_lease() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    // A machine may be busy with something else once or twice.
    let mut spans = Vec::new();
    let is_in_time = |took: &Duration| *took < Duration::from_millis(2525 + 500);
    while spans.len() < 3 && !spans.iter().any(is_in_time) {
        let data = data_beside(&server.data);
        let killed = Process::start_at_last(&server.database, data.path(), &[]).await;
        let token = server.admin().await;
        standing(&server, &admin, 2).await;
        killed.kill();
        let begun = Instant::now();
        let effect = revoke_session(&server, &admin, &token.session_id).await;
        spans.push(begun.elapsed());
        assert_eq!(effect.effective, Some(true));
        assert_eq!((effect.replicas_applied, effect.replicas_total), (1, 1));
        let listed = list(&server, &admin).await;
        assert!(listed.len() > spans.len() && listed[1..].iter().all(|it| it.fenced));
    }
    assert!(spans.iter().any(is_in_time), "{spans:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_that_is_not_waited_for_says_how_many_are_behind() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let data = data_beside(&server.data);
    let admin = server.admin().await.access_token;
    let stopped = Process::start_at_last(&server.database, data.path(), &[]).await;
    let token = server.admin().await;
    let request = proto::CreateRevocationRequest {
        wait: Some(prost_types::Duration {
            seconds: 0,
            nanos: 300_000_000,
        }),
        ..revocation_of(Subject::SessionId(token.session_id.clone()), "")
    };
    let mut revocations = server.revocations().await;
    // From here on its lease has no more than its time to live.
    stopped.pause();
    let created = revocations
        .create_revocation(as_caller(&admin, request))
        .await;
    let effect = created.unwrap().into_inner().effect.unwrap();
    assert_eq!(effect.effective, Some(false));
    // The one that runs may take longer than the wait, too.
    assert_eq!(effect.replicas_total, 2);
    assert!(effect.replicas_applied < 2, "{effect:?}");
    // Whoever revokes it once more waits anew.
    let effect = revoke_session(&server, &admin, &token.session_id).await;
    assert_eq!(effect.effective, Some(true));
    assert_eq!((effect.replicas_applied, effect.replicas_total), (1, 1));
    // It was stopped for longer than its lease: it has to join again, and knows of the revocation before it answers.
    stopped.go_on();
    let mut tokens = stopped.tokens().await;
    eventually("it answers again", async || {
        let request = proto::IntrospectTokenRequest {
            token: token.access_token.clone(),
            ..Default::default()
        };
        match tokens.introspect_token(as_caller(&admin, request)).await {
            Ok(told) => {
                let verdict = told.into_inner().introspection.unwrap();
                assert!(!verdict.active(), "revoked and active");
                true
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                false
            }
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recover_refuses_while_a_server_runs() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let data = data_beside(&server.data);
    let settings = settings(&server.database, &data);
    let file = data.path().join("recovered-password");
    let refused = server::recover(&settings, "admin", &file).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("a server runs over this database"),
        "{refused}"
    );
    assert!(!file.exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_issuer_is_refused_beside_one_that_works() {
    three(async |servers, mut connection| {
        let data = data_beside(&servers[0].data);
        let mut settings = settings(&servers[0].database, &data);
        settings.issuer = "https://elsewhere.example".to_owned();
        let refused = server::open(&settings, Clock::system(), &Background::default()).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("https://elsewhere.example"), "{refused}");
        let leases =
            "SELECT count(*) FROM replica_leases WHERE issuer = 'https://elsewhere.example'";
        let left: i64 = sqlx::query_scalar(leases)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(left, 0);
        // What another one has left is in nobody's way.
        let dead = "INSERT INTO replica_leases (replica_id, name, issuer, beat, applied, join_time)
                    VALUES ('rep_gone', 'gone', 'https://elsewhere.example', 7, 0, 0)";
        connection.execute(dead).await.unwrap();
        servers[0].beside().await.stop().await;
    })
    .await;
}
