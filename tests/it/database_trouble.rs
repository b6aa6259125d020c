//! Servers whose PostgreSQL ends their connections, locks its tables, or lets nobody in: they say UNAVAILABLE meanwhile, never
//! anything wrong, and are well again by themselves.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use token_authority::{
    proto::{self, revocation_subject::Subject},
    storage::ConnectionTrait as _,
};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::{
    replicas::{revoke_session, three},
    support::{
        Engine, Server, TestDatabase, as_caller, eventually, key, postgres, postgres_server,
        reason, revocation_of,
    },
};

/// The sessions whose name is like `which`, ended; how many there were.
async fn terminate(connection: &mut PgConnection, which: &str) -> i64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE $1";
    sqlx::query_scalar(sql)
        .bind(which)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Asks and revokes until told to stop. Whatever cannot be answered is UNAVAILABLE, and what is revoked stays so.
async fn storm(
    servers: [&Server; 2],
    admin: &str,
    dead: &str,
    go_on: watch::Receiver<bool>,
) -> (usize, usize) {
    let (mut answered, mut unavailable) = (0, 0);
    let mut revocations = servers[0].revocations().await;
    let mut tokens = servers[1].tokens().await;
    let mut count = |outcome: Result<(), Status>| match outcome {
        Ok(()) => answered += 1,
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            unavailable += 1;
        }
    };
    let mut number = 0;
    while *go_on.borrow() {
        number += 1;
        let subject = Subject::TokenId(format!("token-{number}"));
        let revoked = revocations.create_revocation(as_caller(admin, revocation_of(subject, "")));
        count(revoked.await.map(drop));
        let request = proto::IntrospectTokenRequest {
            token: dead.to_owned(),
            ..Default::default()
        };
        let told = tokens.introspect_token(as_caller(admin, request)).await;
        count(told.map(|told| {
            let verdict = told.into_inner().introspection.unwrap();
            assert!(!verdict.active(), "revoked and active");
        }));
    }
    (answered, unavailable)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_lose_their_connections_recover_and_meanwhile_are_unavailable_at_most() {
    three(async |servers, mut connection| {
        let admin = servers[0].admin().await.access_token;
        let dead = servers[0].admin().await;
        assert!(
            revoke_session(servers[0], &admin, &dead.session_id)
                .await
                .effective()
        );
        let (asking, go_on) = watch::channel(true);
        let breaking = async {
            for which in [
                "token-authority lease",
                "token-authority listener",
                "token-authority%",
            ] {
                let killed = terminate(&mut connection, which).await;
                assert!(killed >= 3, "{which}: {killed} were killed");
                for server in servers {
                    eventually("it may answer from memory again", async || {
                        server.authority.log.is_current()
                    })
                    .await;
                }
                eventually("revocations are effective again", async || {
                    let subject = Subject::SessionId("some".to_owned());
                    let revoked = servers[2].revoke_by_reference(&admin, subject, "").await;
                    revoked.is_ok_and(|revoked| revoked.effect.unwrap().effective())
                })
                .await;
            }
            asking.send_replace(false);
        };
        let ((answered, unavailable), ()) = tokio::join!(
            storm(
                [servers[0], servers[1]],
                &admin,
                &dead.access_token,
                go_on.clone()
            ),
            breaking
        );
        eprintln!("killed 3 times: {answered} calls answered, {unavailable} unavailable");
        assert!(answered > 0);
    })
    .await;
}

/// Whoever can write its lease and cannot read the log must not keep others waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_read_the_log_lets_its_lease_go() {
    three(async |servers, mut connection| {
        let admin = servers[0].admin().await.access_token;
        let mut other = postgres(&servers[0].database).await.unwrap();
        let mut held = connection.begin().await.unwrap();
        let lock = "LOCK TABLE revocation_log IN ACCESS EXCLUSIVE MODE";
        sqlx::query(lock).execute(&mut *held).await.unwrap();
        let mut beats = async || -> i64 {
            let sql = "SELECT coalesce(sum(beat), 0)::bigint FROM replica_leases";
            sqlx::query_scalar(sql).fetch_one(&mut other).await.unwrap()
        };
        eventually("no lease is renewed", async || {
            let before = beats().await;
            // Twice as long as a renewal may take to come.
            tokio::time::sleep(Duration::from_secs(1)).await;
            beats().await == before
        })
        .await;
        for server in servers {
            let current = || server.authority.log.is_current();
            eventually("what it remembers counts no more", async || !current()).await;
        }
        held.rollback().await.unwrap();
        for server in servers {
            eventually("it may answer again", async || {
                server.authority.log.is_current()
            })
            .await;
        }
        let token = servers[1].admin().await;
        let effect = revoke_session(servers[2], &admin, &token.session_id).await;
        assert_eq!(effect.effective, Some(true));
        for server in servers {
            assert!(
                !server
                    .introspect(&admin, &token.access_token)
                    .await
                    .active()
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_in_a_transaction_does_not_stop_the_others() {
    three(async |servers, _| {
        let tenant = servers[0].tenant("acme").await;
        let (id, _) = servers[0].made_key(&tenant.alice_token, key(&[])).await;
        let stopped = servers[1].authority.db.begin().await.unwrap();
        let lock = "SELECT count(*) FROM (SELECT 1 FROM api_keys FOR UPDATE) AS locked";
        stopped.execute_unprepared(lock).await.unwrap();
        let revoked = servers[0].revoke_key(&tenant.alice_token, &id).await;
        assert_eq!(revoked.unwrap().effect.unwrap().effective, Some(true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lets_nobody_in_is_unavailable() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await;
    let (_, database) = server.database.url().unwrap().rsplit_once('/').unwrap();
    let mut direct = PgConnection::connect(&postgres_server().unwrap())
        .await
        .unwrap();
    let allow = |allowed| {
        sqlx::AssertSqlSafe(format!(
            "ALTER DATABASE {database} ALLOW_CONNECTIONS {allowed}"
        ))
    };
    let revoke = async || {
        let subject = Subject::SessionId("session".to_owned());
        let token = &admin.access_token;
        server.revoke_by_reference(token, subject, "").await
    };
    direct.execute(allow(false)).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(database)
        .execute(&mut direct)
        .await
        .unwrap();
    for _ in 0..3 {
        let refused = revoke().await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert_eq!(reason(&refused), "DATABASE_UNAVAILABLE");
    }
    direct.execute(allow(true)).await.unwrap();
    eventually("the server is well again", async || revoke().await.is_ok()).await;
    server.stop().await;
}
