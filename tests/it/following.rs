//! A server that does not follow the log answers nothing out of memory, and keeps nobody waiting for long.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use token_authority::{
    domain::{
        ids::SigningKeyId,
        revocation::{Decision, Subject},
    },
    log::{self, Effect, WaitUntil},
    storage::{
        Transaction,
        revocation_log::{self, Turn},
    },
};
use tokio::time::Instant;
use tonic::Code;

use crate::support::{
    Engine, Server, TestDatabase, as_caller, data_beside, eventually, introspect_request,
};

const CONNECTIONS: u32 = 2;

/// Says that a signing key has changed, and waits for everybody to know; for longer than a lease lasts that runs out, and not so
/// long that the pool is replaced.
async fn tell_of_a_key(server: &Server) -> Effect {
    tell_within(server, Duration::from_secs(8)).await
}

async fn tell_within(server: &Server, wait: Duration) -> Effect {
    let subject = Subject::SigningKey(SigningKeyId::known("some"));
    let mut pending = server.authority.log.pending();
    let transaction = server.authority.db.begin().await.unwrap();
    let (decision, now) = (Decision::change(subject, None), server.clock.now());
    pending.append(&transaction, &decision, now).await.unwrap();
    transaction.commit().await.unwrap();
    let until = WaitUntil::from(Instant::now() + wait);
    pending.effect(until).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_reads_the_log_and_cannot_apply_it_lets_its_lease_go() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let other = beside(&server).await;
    assert!(tell_of_a_key(&server).await.effective);

    let held = hold_all(&other).await;
    let effect = tell_of_a_key(&server).await;
    assert!(effect.effective, "{effect:?}");
    assert!(!other.authority.log.is_current());

    drop(held);
    eventually("it may answer again", async || {
        other.authority.log.is_current()
    })
    .await;
    // On a busy machine either may lose its lease again.
    eventually("both apply what follows", async || {
        let effect = tell_of_a_key(&server).await;
        (effect.effective, effect.replicas_applied) == (true, 2)
    })
    .await;
    other.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_read_its_file_answers_nothing_until_it_can() {
    let server = Server::start(TestDatabase::create(Engine::Sqlite).await.unwrap()).await;
    let admin = server.admin().await.access_token;
    let rename = async |from: &str, to: &str| {
        let transaction = server.authority.db.begin().await.unwrap();
        let rename = format!("ALTER TABLE {from} RENAME TO {to}");
        transaction.execute_unprepared(&rename).await.unwrap();
        transaction.commit().await.unwrap();
    };
    rename("revocation_log", "elsewhere").await;
    eventually("it answers nothing from memory", async || {
        !server.authority.log.is_current()
    })
    .await;
    let mut tokens = server.tokens().await;
    let told = tokens.introspect_token(as_caller(&admin, introspect_request(&admin)));
    assert_eq!(told.await.unwrap_err().code(), Code::Unavailable);

    rename("elsewhere", "revocation_log").await;
    eventually("it may answer again", async || {
        server.authority.log.is_current()
    })
    .await;
    assert!(server.introspect(&admin, &admin).await.active());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_the_turn_at_the_log_does_not_hold_up_the_end_of_others() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let other = server.beside().await;
    let turn = server.begin_and_stay().await;
    eventually("the turn is free for a moment", async || {
        let taken = revocation_log::take_turn(&turn, Turn::Sequence).await;
        taken.unwrap()
    })
    .await;
    let effect = tell_within(&other, Duration::from_millis(300)).await;
    assert_eq!(effect.position, None, "nobody has a turn");
    let begun = Instant::now();
    other.stop().await;
    // It would be cut after ten.
    assert!(begun.elapsed() < Duration::from_secs(5));
    turn.rollback().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_judged_before_the_lease_ran_out_is_judged_anew() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let other = beside(&server).await;
    let token = server.admin().await.access_token;
    let judge = async || {
        let verdict = other.authority.judge(&token, other.clock.now()).await?;
        Ok(verdict.is_ok())
    };
    let turns = AtomicUsize::new(0);
    let judged = other.authority.log.judged(|| async {
        let good = judge().await;
        // While it holds its verdict in hand, it loses its lease, and the token is revoked.
        if turns.fetch_add(1, Ordering::SeqCst) == 0 {
            let held = hold_all(&other).await;
            assert!(tell_of_a_key(&server).await.effective);
            let effect = server.revoke(&token).await.unwrap();
            assert_eq!(effect.effective, Some(true));
            assert!(!other.authority.log.is_current());
            drop(held);
            eventually("it has another lease", async || {
                other.authority.log.is_current()
            })
            .await;
        }
        good
    });
    assert!(!judged.await.unwrap(), "it is still active");
    assert_eq!(turns.into_inner(), 2);

    let once = AtomicUsize::new(0);
    let judged = server.authority.log.judged(|| async {
        once.fetch_add(1, Ordering::SeqCst);
        judge().await
    });
    assert!(!judged.await.unwrap());
    assert_eq!(once.into_inner(), 1);
    other.stop().await;
    server.stop().await;
}

/// A second server over the same database, with few connections.
async fn beside(server: &Server) -> Server {
    let (shared, data) = (server.database.shared(), data_beside(&server.data));
    Server::start_in(shared, data, server.clock.clone(), |settings| {
        settings.database.connections = CONNECTIONS;
    })
    .await
}

/// All the connections of its pool: keys are read by way of it, the log by way of a connection of its own.
async fn hold_all(server: &Server) -> Vec<Transaction> {
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(server.authority.db.begin().await.unwrap());
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_begins_anew_while_it_is_loaded_is_known_by_its_new_name() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let (shared, data) = (server.database.shared(), data_beside(&server.data));
    let (db, clock) = (&server.authority.db, server.clock.clone());
    let held = server.begin_and_stay().await;
    let lock = "LOCK TABLE revocation_log IN ACCESS EXCLUSIVE MODE";
    held.execute_unprepared(lock).await.unwrap();
    let begin_anew = async {
        // That of this server, which stands still meanwhile, and that of the one that starts.
        eventually("both wait to read the log", async || {
            let sql = "SELECT count(*) AS waiting FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name = 'token-authority tail' AND wait_event_type = 'Lock'";
            let statement = Statement::from_string(DbBackend::Postgres, sql);
            let row = db.reader().query_one_raw(statement).await.unwrap().unwrap();
            row.try_get::<i64>("", "waiting").unwrap() == 2
        })
        .await;
        let everything = Decision::change(Subject::Everything, None);
        log::begin_anew(&held, &everything, clock.now())
            .await
            .unwrap();
        held.commit().await.unwrap();
    };
    let starting = Server::start_in(shared, data, clock.clone(), |_| {});
    let (other, ()) = tokio::join!(starting, begin_anew);
    let effect = server.revoke(&admin).await.unwrap();
    assert_eq!(effect.effective, Some(true));
    other.authority.log.open_cursor(&effect.cursor).unwrap();
    other.stop().await;
    server.stop().await;
}
