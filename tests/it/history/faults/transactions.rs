//! Transactions that are left open.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use token_authority::clock::{Clock, boottime};
use tokio::time::Instant;

use super::super::{record::Sizes, world::World};
use crate::support::{Engine, TestDatabase, postgres};

const TABLE: &str = "CREATE TABLE nemesis (number bigint)";
const WRITE: &str = "INSERT INTO nemesis VALUES (1)";

/// How long a snapshot is kept.
const KEPT: Duration = Duration::from_secs(150);
/// Entries a millisecond that are written meanwhile, and how often some are.
const FLOOD: i64 = 5;
const EVERY: Duration = Duration::from_millis(50);
/// How often the tables are measured.
const MEASURED: Duration = Duration::from_secs(10);
/// The session that the flood is about, which nobody has.
const NOBODY: &str = "ses_nobody";

/// Makes a table to write to.
pub(in crate::history) async fn prepare(world: &World) {
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    connection.execute(TABLE).await.unwrap();
}

pub(super) async fn hold(world: &World, duration: Duration) {
    let connection = postgres(&world.cluster.database).await.unwrap();
    write_and_hold(connection, duration).await;
}

/// In another database of the same server.
pub(super) async fn hold_elsewhere(duration: Duration) {
    let database = TestDatabase::create(Engine::Postgres).await.unwrap();
    let mut connection = postgres(&database).await.unwrap();
    connection.execute(TABLE).await.unwrap();
    write_and_hold(connection, duration).await;
}

async fn write_and_hold(mut connection: PgConnection, duration: Duration) {
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute(WRITE).await.unwrap();
    tokio::time::sleep(duration).await;
    transaction.commit().await.unwrap();
    connection.close().await.unwrap();
}

/// Keeps a snapshot, so that no row that is deleted meanwhile is forgotten, while thousands of entries a second are written and
/// moved.
pub(super) async fn flood(world: &World) {
    let mut reader = postgres(&world.cluster.database).await.unwrap();
    let mut snapshot = reader.begin().await.unwrap();
    let repeatable = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    snapshot.execute(repeatable).await.unwrap();
    let count = "SELECT count(*) FROM revocation_log";
    let before: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut *snapshot)
        .await
        .unwrap();
    measure(world, 0).await;
    let written = write_flood(world).await;
    let after: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut *snapshot)
        .await
        .unwrap();
    assert_eq!(before, after, "the snapshot was kept");
    snapshot.rollback().await.unwrap();
    measure(world, written).await;
}

/// How many entries were written.
async fn write_flood(world: &World) -> i64 {
    let mut writer = postgres(&world.cluster.database).await.unwrap();
    let sql = "INSERT INTO revocation_inbox \
                   (event_id, kind, subject_kind, subject_id, space_id, create_time, forget_time, reason) \
               SELECT 'rev_' || replace(gen_random_uuid()::text, '-', ''), 1, 'session', $1, $2, $3, $4, 1 \
               FROM generate_series(1, $5)";
    let (begun, mut measured, mut written) = (Instant::now(), Instant::now(), 0);
    while begun.elapsed() < KEPT {
        let due = i64::try_from(begun.elapsed().as_millis()).unwrap() * FLOOD;
        let now = Clock::system().now();
        let writing = sqlx::query(sql)
            .bind(NOBODY)
            .bind(world.spaces[0].as_str())
            .bind(now.micros())
            .bind((now + token_authority::domain::revocation::FORGET_AFTER).micros())
            .bind((due - written).min(1000));
        let done = writing.execute(&mut writer).await.unwrap();
        written += i64::try_from(done.rows_affected()).unwrap();
        if measured.elapsed() > MEASURED {
            measure(world, written).await;
            measured = Instant::now();
        }
        tokio::time::sleep(EVERY).await;
    }
    written
}

/// Notes how large the tables are, after so many entries of a flood.
pub(in crate::history) async fn measure(world: &World, flood: i64) {
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    let sql = "SELECT pg_total_relation_size('revocation_inbox'), pg_total_relation_size('revocation_log')";
    let (inbox, log) = sqlx::query_as(sql)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    world.record().sizes.push(Sizes {
        moment: boottime(),
        inbox,
        log,
        flood,
    });
}

/// The place of the last entry once each has one, however long that takes.
pub(in crate::history) async fn last_place(world: &World) -> u64 {
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    let sql = "SELECT (SELECT count(*) FROM revocation_inbox), (SELECT max(position) FROM revocation_log)";
    loop {
        let (waiting, head): (i64, i64) = sqlx::query_as(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if waiting == 0 {
            return u64::try_from(head).unwrap();
        }
        tokio::time::sleep(EVERY).await;
    }
}
