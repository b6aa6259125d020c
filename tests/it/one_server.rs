//! One server at a time over one database, and what becomes of it when it loses the connection that says so.

use std::sync::Arc;

use sqlx::PgConnection;
use token_authority::{
    config::Settings,
    proto::{self, revocation_subject::Subject},
    server::{self, Life},
};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::support::{
    Engine, Process, Server, TestDatabase, as_caller, both, eventually, postgres, revocation_of,
    settings,
};

/// The name of the connection that holds the lock.
const LOCK: &str = "token-authority server";

both!(a_second_server_refuses_to_start, async |server| {
    let settings: Settings = settings(&server.database, &server.data);
    let life = Life::default();
    let clock = server.clock.clone();
    let second = server::open(&settings, clock, &life.background, &life.stopping).await;
    let refusal = second.unwrap_err().to_string();
    let expected = match server.database.engine() {
        Engine::Sqlite => "is in use by another process",
        Engine::Postgres => "another server runs over this database",
    };
    assert!(refusal.contains(expected), "{refusal}");
    life.stopping.cancel();
    // The first one has not noticed.
    let admin = server.admin().await.access_token;
    assert!(server.introspect(&admin, &admin).await.active());
});

both!(
    a_second_process_refuses_to_start_and_says_why,
    async |server| {
        let said = Process::start(&server.database, server.data.path()).unwrap_err();
        let expected = match server.database.engine() {
            Engine::Sqlite => "is in use by another process",
            Engine::Postgres => "another server runs over this database",
        };
        assert!(said.contains(expected), "{said}");
    }
);

/// A server on PostgreSQL, and a connection beside it.
async fn on_postgres(test: impl AsyncFnOnce(&Server, PgConnection)) {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let connection = postgres(&server.database).await.unwrap();
    test(&server, connection).await;
    server.stop().await;
}

/// The sessions under a name.
async fn sessions(connection: &mut PgConnection, name: &str) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()";
    sqlx::query_scalar(sql)
        .bind(name)
        .fetch_all(connection)
        .await
        .unwrap()
}

async fn terminate(connection: &mut PgConnection, which: &str) -> i64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE $1";
    sqlx::query_scalar(sql)
        .bind(which)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// A token that was revoked before anything broke.
async fn revoked(server: &Server) -> String {
    let token = server.admin().await.access_token;
    let request = proto::RevokeTokenRequest {
        token: token.clone(),
        wait: None,
    };
    server.tokens().await.revoke_token(request).await.unwrap();
    token
}

/// Asks and revokes until told to stop. Whatever cannot be answered is UNAVAILABLE, and what is revoked stays so.
async fn storm(
    server: &Server,
    admin: &str,
    dead: &str,
    go_on: watch::Receiver<bool>,
) -> (usize, usize) {
    let (mut answered, mut unavailable) = (0, 0);
    let mut tokens = server.tokens().await;
    let mut revocations = server.revocations().await;
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
async fn a_server_that_loses_its_lock_or_every_connection_recovers_and_meanwhile_is_unavailable() {
    on_postgres(async |server, mut connection| {
        let admin = server.admin().await.access_token;
        let dead = revoked(server).await;
        let (asking, go_on) = watch::channel(true);
        let breaking = async {
            // The session of the lock alone, and then all that the server has.
            for (round, which) in [LOCK, "token-authority%", LOCK, "token-authority%"]
                .iter()
                .enumerate()
            {
                let before = sessions(&mut connection, LOCK).await;
                assert_eq!(before.len(), 1, "one session holds the lock");
                let killed = terminate(&mut connection, which).await;
                assert!(killed > 0, "{which}: none was killed");
                assert_eq!(killed == 1, *which == LOCK, "{which}: {killed}");
                let connection = &mut connection;
                eventually("the lock is held again", async || {
                    let held = sessions(connection, LOCK).await;
                    held.len() == 1 && held != before
                })
                .await;
                serves(server, &admin, round).await;
            }
            asking.send_replace(false);
        };
        let ((answered, unavailable), ()) =
            tokio::join!(storm(server, &admin, &dead, go_on.clone()), breaking);
        eprintln!("killed 4 times: {answered} calls answered, {unavailable} unavailable");
        assert!(answered > 0);
    })
    .await;
}

/// Waits until the server answers and revokes again. While it takes the lock anew it still says UNAVAILABLE, though it may
/// have served a moment before by the right that the old lock gave it.
async fn serves(server: &Server, admin: &str, round: usize) {
    eventually("the server serves again", async || {
        let subject = Subject::TokenId(format!("after-{round}"));
        let revoked = server.revoke_by_reference(admin, subject, "").await;
        let effective = revoked.is_ok_and(|revoked| revoked.effect.unwrap().effective());
        let request = proto::IntrospectTokenRequest {
            token: admin.to_owned(),
            ..Default::default()
        };
        let mut tokens = server.tokens().await;
        let told = tokens.introspect_token(as_caller(admin, request)).await;
        let active = told.map(|told| told.into_inner().introspection.unwrap().active());
        effective && active.unwrap_or(false)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ends_when_another_one_has_taken_its_database_over() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let mut connection = postgres(&server.database).await.unwrap();
    // Whoever holds the lock meanwhile is another server, as far as this one can know.
    let mut another = postgres(&server.database).await.unwrap();
    let key = "SELECT ((classid::bigint << 32) | objid::bigint) FROM pg_locks \
               WHERE locktype = 'advisory' AND granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let key: i64 = sqlx::query_scalar(key)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let taking = sqlx::query("SELECT pg_advisory_lock($1)").bind(key);
    let (taken, killed) = tokio::join!(taking.execute(&mut another), async {
        eventually("the other one waits", async || waits(&mut connection).await).await;
        terminate(&mut connection, LOCK).await
    });
    taken.unwrap();
    assert_eq!(killed, 1);
    let authority = Arc::clone(&server.authority);
    let end = server.ended().await.unwrap_err().to_string();
    assert!(end.contains("another server has taken"), "{end}");
    assert!(!authority.log.is_current(), "it answers no more");
}

/// Whether somebody waits for a lock of this database.
async fn waits(connection: &mut PgConnection) -> bool {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let waiting: i64 = sqlx::query_scalar(waiting)
        .fetch_one(connection)
        .await
        .unwrap();
    waiting > 0
}
