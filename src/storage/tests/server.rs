//! What only a server can do to us: it cuts connections, falls silent, and has other clients.

use std::{net::SocketAddr, time::Duration};

use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait};
use secrecy::ExposeSecret;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;

use super::{Place, count_spaces, space, write_space};
use crate::{
    clock::Timestamp,
    error::Reason,
    storage::{
        Database, DatabaseLocation, DatabaseSettings, SessionLock,
        authority::{self, AuthorityRow},
        entity::spaces,
        statement::statement,
    },
};

const SHORT: Duration = Duration::from_millis(200);
/// For what must be done in time, where a machine may be slow, before the same time is waited for in vain.
const LONGER: Duration = Duration::from_secs(3);
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_mins(1);

/// Stands between a client and the server, and can fall silent: what is connected stays so and hears nothing more, while
/// new connections are as good as ever.
struct Wire {
    address: SocketAddr,
    silences: watch::Sender<u32>,
    tasks: TaskTracker,
}

impl Wire {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silences, heard) = watch::channel(0);
        let tasks = TaskTracker::new();
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(carry(client, server, heard.clone()));
            }
        });
        Self {
            address,
            silences,
            tasks,
        }
    }

    fn fall_silent(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut silences: watch::Receiver<u32>) {
    silences.mark_unchanged();
    tokio::select! {
        carried = copy_bidirectional(&mut client, &mut server) => drop(carried),
        _ = silences.changed() => std::future::pending().await,
    }
}

/// A database that is reached over a wire, with little patience.
async fn over_a_wire(place: &Place) -> (Wire, Database) {
    let url = url_of(&place.settings);
    let host = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let wire = Wire::to(host.to_owned()).await;
    let mut settings = DatabaseSettings::postgres(url.replace(host, &wire.address.to_string()));
    settings.max_connections = 1;
    settings.acquire_timeout = LONGER;
    settings.statement_timeout = LONGER;
    (wire, Database::open(&settings).await.unwrap())
}

fn url_of(settings: &DatabaseSettings) -> String {
    match &settings.location {
        DatabaseLocation::Postgres(url) => url.expose_secret().to_owned(),
        DatabaseLocation::Sqlite(_) => unreachable!("the place is on a server"),
    }
}

/// Ends every other session of the database.
async fn cut_connections(database: &Database) {
    let other = Database::open(&database.0.settings).await.unwrap();
    other
        .reader()
        .execute_unprepared(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    other.close().await;
}

#[tokio::test]
async fn a_statement_without_an_answer_replaces_the_pool() {
    let Some(place) = Place::postgres().await else {
        return;
    };
    place.open().await.close().await;
    let (wire, database) = over_a_wire(&place).await;
    write_space(&database, "before").await.unwrap();
    let transaction = database.begin().await.unwrap();
    wire.fall_silent();
    space("lost").insert(&transaction).await.unwrap_err();
    drop(transaction);
    write_space(&database, "after").await.unwrap();
    assert_eq!(count_spaces(&database).await, 2);
    drop(wire.tasks);
}

#[tokio::test]
async fn a_pool_whose_places_are_lost_is_replaced() {
    let Some(place) = Place::postgres().await else {
        return;
    };
    place.open().await.close().await;
    let (wire, database) = over_a_wire(&place).await;
    let transaction = database.begin().await.unwrap();
    wire.fall_silent();
    // Its connection goes back, and never arrives.
    drop(transaction);
    let refused = write_space(&database, "first").await.unwrap_err();
    assert_eq!(refused.reason(), Reason::DatabaseUnavailable);
    assert!(refused.retry_delay().is_some());
    let written = async { while write_space(&database, "again").await.is_err() {} };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
    assert_eq!(count_spaces(&database).await, 1);
}

#[tokio::test]
async fn cut_connections_are_replaced_one_by_one() {
    let Some(mut place) = Place::postgres().await else {
        return;
    };
    place.settings.max_connections = 1;
    let database = place.open().await;
    cut_connections(&database).await;
    let refused = write_space(&database, "one").await.unwrap_err();
    assert_eq!(refused.reason(), Reason::DatabaseUnavailable);
    write_space(&database, "two").await.unwrap();
    assert_eq!(count_spaces(&database).await, 1);
}

#[tokio::test]
async fn a_dedicated_connection_may_not_hold_a_transaction_open() {
    let Some(place) = Place::postgres().await else {
        return;
    };
    let database = place.open().await;
    let sequencer = database.dedicated("sequencer", LONGER).await.unwrap();
    let transaction = sequencer.begin().await.unwrap();
    space("one").insert(&transaction).await.unwrap();
    session_ends(&database, "sequencer").await;
    let late = space("two").insert(&transaction).await.unwrap_err();
    assert_eq!(
        crate::error::Error::from(late).reason(),
        Reason::DatabaseUnavailable
    );
    drop(transaction);
    let transaction = sequencer.begin().await.unwrap();
    space("three").insert(&transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count_spaces(&database).await, 1);
    assert_eq!(sequencer.in_use().open, 1);
}

/// Waits until the server has ended the session of this name.
async fn session_ends(database: &Database, name: &str) {
    let sql = "SELECT count(*) AS sessions FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = $1";
    let ending = async {
        let reader = database.reader();
        loop {
            let counting = statement(reader, sql, [name.into()]);
            let row = reader.query_one_raw(counting).await.unwrap();
            let sessions: i64 = row.unwrap().try_get("", "sessions").unwrap();
            if sessions == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ending).await.unwrap();
}

#[tokio::test]
async fn commits_wait_until_they_are_durable_whatever_the_database_says() {
    let Some(place) = Place::postgres().await else {
        return;
    };
    for (configured, used) in [
        ("off", "on"),
        ("local", "local"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let configuring = place.open().await;
        let sql = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = {configured}', current_database()); END $$"
        );
        configuring.reader().execute_unprepared(&sql).await.unwrap();
        configuring.close().await;
        let database = place.open().await;
        let dedicated = database.dedicated("lease", SHORT).await.unwrap();
        for pool in [database.reader(), &dedicated] {
            let sql = "SELECT current_setting('synchronous_commit') AS used";
            let row = pool.query_one_raw(statement(pool, sql, [])).await.unwrap();
            let found: String = row.unwrap().try_get("", "used").unwrap();
            assert_eq!(found, used, "where the database has {configured}");
        }
    }
}

#[tokio::test]
async fn an_authority_knows_from_the_first_on_which_timeline_it_is() {
    let Some(place) = Place::postgres().await else {
        return;
    };
    let database = place.open().await;
    let transaction = database.begin().await.unwrap();
    let row = AuthorityRow {
        log_identity: [7; 16],
        key_check: vec![7],
        master_key_id: "a key".to_owned(),
    };
    let now = Timestamp::from_micros(1);
    authority::insert(&transaction, &row, now).await.unwrap();
    let (known, now) = authority::timelines(&transaction).await.unwrap();
    assert_eq!(known, Some(now));
}

#[tokio::test]
async fn a_session_lock_lasts_as_long_as_its_connection() {
    let Some(place) = Place::postgres().await else {
        return;
    };
    let database = place.open().await;
    let take = || SessionLock::try_acquire(&database, "one server", 7);
    let mut held = take().await.unwrap().unwrap();
    held.check().await.unwrap();
    assert!(take().await.unwrap().is_none());
    cut_connections(&database).await;
    assert_eq!(
        held.check().await.unwrap_err().reason(),
        Reason::DatabaseUnavailable
    );
    held.check().await.unwrap_err();
    assert!(take().await.unwrap().is_some());
}

#[tokio::test]
async fn statements_that_wait_too_long_are_given_up() {
    let Some(mut place) = Place::postgres().await else {
        return;
    };
    // Migrations may take longer.
    place.open().await.close().await;
    place.settings.lock_timeout = SHORT;
    place.settings.statement_timeout = 2 * SHORT;
    let database = Database::open(&place.settings).await.unwrap();
    let first = database.begin().await.unwrap();
    space("one").insert(&first).await.unwrap();
    let waited = write_space(&database, "one").await.unwrap_err();
    assert_eq!(waited.reason(), Reason::DatabaseUnavailable);
    let slept = database
        .reader()
        .execute_unprepared("SELECT pg_sleep(10)")
        .await;
    assert_eq!(
        crate::error::Error::from(slept.unwrap_err()).reason(),
        Reason::DatabaseUnavailable
    );
    first.commit().await.unwrap();
    let kept = spaces::Entity::find().one(database.reader()).await.unwrap();
    assert_eq!(kept.unwrap().slug, "one");
}
