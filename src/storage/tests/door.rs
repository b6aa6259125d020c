//! Opening, transactions, and futures that are dropped.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, sqlx::Connection};

use super::{Place, count_spaces, poll_and_drop, space, write_space};
use crate::{
    error::{Error, Reason},
    storage::{Database, DatabaseLocation, Engine, entity::spaces},
};

#[tokio::test]
async fn a_file_has_one_owner() {
    let place = Place::sqlite();
    let database = place.open().await;
    let refused = Database::open(&place.settings).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::DatabaseUnavailable);
    assert!(refused.message().contains("in use by another process"));
    database.close().await;
    drop(database);
    Database::open(&place.settings).await.unwrap();
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let place = Place::sqlite();
    let database = place.open().await;
    write_space(&database, "one").await.unwrap();
    let DatabaseLocation::Sqlite(path) = &place.settings.location else {
        unreachable!("the place is a file");
    };
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn readers_of_a_file_cannot_write() {
    let database = Place::sqlite();
    let database = database.open().await;
    let refused = space("one").insert(database.reader()).await;
    assert!(refused.is_err());
    assert_eq!(count_spaces(&database).await, 0);
}

#[tokio::test]
async fn a_dropped_transaction_rolls_back() {
    for place in Place::each().await {
        let database = place.open().await;
        let transaction = database.begin().await.unwrap();
        space("one").insert(&transaction).await.unwrap();
        drop(transaction);
        write_space(&database, "two").await.unwrap();
        let slugs: Vec<String> = spaces::Entity::find()
            .all(database.reader())
            .await
            .unwrap()
            .into_iter()
            .map(|space| space.slug)
            .collect();
        assert_eq!(slugs, ["two"]);
    }
}

#[tokio::test]
async fn a_begin_dropped_midway_takes_no_later_write_with_it() {
    for mut place in Place::each().await {
        // So that what follows is written on the connection of the begin that was dropped.
        place.settings.max_connections = 1;
        let database = place.open().await;
        for round in 0..60 {
            all_idle(&database).await;
            poll_and_drop(database.begin(), 1 + round % 6).await;
            write_space(&database, &format!("tx-{round}"))
                .await
                .unwrap();
            if database.engine() == Engine::Postgres {
                // Outside a transaction, where it would be lost on a connection that is inside one.
                all_idle(&database).await;
                poll_and_drop(database.begin(), 1 + round % 6).await;
                space(&format!("single-{round}"))
                    .insert(database.reader())
                    .await
                    .unwrap();
            }
        }
        let written = count_spaces(&database).await;
        let engine = database.engine();
        database.close().await;
        drop(database);
        let reopened = place.open().await;
        assert_eq!(count_spaces(&reopened).await, written);
        assert_eq!(written, if engine == Engine::Postgres { 120 } else { 60 });
    }
}

/// Waits until a connection is there to begin on at once.
async fn all_idle(database: &Database) {
    while database.pool_use().idle < database.pool_use().open {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_statement_dropped_midway_ends_its_transaction() {
    for place in Place::each().await {
        let database = place.open().await;
        let transaction = database.begin().await.unwrap();
        space("one").insert(&transaction).await.unwrap();
        // One that cannot have ended by the time it is dropped.
        let slow = match database.engine() {
            Engine::Postgres => "SELECT pg_sleep(0.3)",
            Engine::Sqlite => {
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT count(*) FROM n"
            }
        };
        poll_and_drop(transaction.execute_unprepared(slow), 1).await;
        assert!(transaction.commit().await.is_err());
        assert_eq!(count_spaces(&database).await, 0);
    }
}

#[tokio::test]
async fn nothing_lasts_of_a_transaction_in_which_a_statement_failed() {
    for place in Place::each().await {
        let database = place.open().await;
        let transaction = database.begin().await.unwrap();
        space("one").insert(&transaction).await.unwrap();
        space("one").insert(&transaction).await.unwrap_err();
        assert!(space("two").insert(&transaction).await.is_err());
        assert!(transaction.commit().await.is_err());
        write_space(&database, "three").await.unwrap();
        assert_eq!(count_spaces(&database).await, 1);
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_there() {
    let place = Place::sqlite();
    let database = place.open().await;
    write_space(&database, "before").await.unwrap();
    let transaction = database.begin().await.unwrap();
    transaction
        .execute_unprepared("PRAGMA max_page_count = 1")
        .await
        .unwrap();
    space("small").insert(&transaction).await.unwrap();
    let mut large = space("large");
    large.display_name = Set("x".repeat(1 << 20));
    let full = Error::from(large.insert(&transaction).await.unwrap_err());
    assert_eq!(full.reason(), Reason::DatabaseUnavailable);
    assert!(full.retry_delay().is_some());
    assert!(space("late").insert(&transaction).await.is_err());
    assert!(transaction.commit().await.is_err());

    let transaction = database.begin().await.unwrap();
    transaction
        .execute_unprepared("PRAGMA max_page_count = 4294967294")
        .await
        .unwrap();
    space("after").insert(&transaction).await.unwrap();
    transaction.commit().await.unwrap();
    database.close().await;
    drop(database);
    assert_eq!(count_spaces(&place.open().await).await, 2);
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_itself_does_not_count_on() {
    let place = Place::sqlite();
    let database = place.open().await;
    write_space(&database, "one").await.unwrap();
    let transaction = database.begin().await.unwrap();
    transaction
        .execute_unprepared("INSERT OR ROLLBACK INTO spaces SELECT * FROM spaces")
        .await
        .unwrap_err();
    drop(transaction);
    let connections = database.0.writers.connection();
    let connections = connections.get_sqlite_connection_pool();
    assert!(!connections.acquire().await.unwrap().is_in_transaction());
    write_space(&database, "two").await.unwrap();
    assert_eq!(count_spaces(&database).await, 2);
}

#[tokio::test]
async fn every_statement_is_counted() {
    for place in Place::each().await {
        let database = place.open().await;
        let before = database.query_count();
        let transaction = database.begin().await.unwrap();
        space("one").insert(&transaction).await.unwrap();
        space("two").insert(&transaction).await.unwrap();
        transaction.commit().await.unwrap();
        spaces::Entity::find().one(database.reader()).await.unwrap();
        assert_eq!(database.query_count() - before, 3);
    }
}

#[tokio::test]
async fn a_connection_of_its_own_reads_a_file_while_all_others_are_busy() {
    let place = Place::sqlite();
    let database = place.open().await;
    let readers = database.reader().connection();
    let readers = readers.get_sqlite_connection_pool();
    let mut busy = Vec::new();
    while busy.len() < crate::storage::READERS as usize {
        busy.push(readers.acquire().await.unwrap());
    }
    assert!(readers.try_acquire().is_none());
    let own = database.dedicated("tail", Duration::ZERO).await.unwrap();
    let found = spaces::Entity::find().all(&own).await.unwrap();
    assert!(found.is_empty());
    let written = space("one").insert(&own).await;
    assert!(written.is_err(), "it only reads");
}
