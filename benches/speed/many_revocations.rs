//! A server with a million revocations in force: how soon it is ready, what memory it takes, and how fast one subscriber gets
//! them all. The server is a process of its own, the subscriber here.
//!
//! The subscriber counts the entries of a message by the lengths in front of them, and decodes nothing. What that takes, and
//! what the server takes, is told as processor time.

use std::{path::Path, time::Instant};

use token_authority::{
    clock::{Clock, Timestamp},
    domain::{
        ids::{EventId, SessionId, SpaceId, UserId},
        revocation::{FORGET_AFTER, Reason, Subject},
    },
    storage::{self, ConnectionTrait as _, DatabaseSettings},
};
use tokio::runtime::Runtime;

use crate::{
    database::{Database, Engine},
    process::{Process, processor_time},
    report::{Table, median},
    subscriber::{Subscriber, administrator},
};

const ENTRIES: u32 = 1_000_000;
/// Rows of one statement.
const ROWS: u32 = 4000;
/// Over how long they were revoked, in seconds.
const DECIDED_OVER: i64 = 6 * 3600;
const STARTS: usize = 5;
const STREAMS: usize = 5;

/// P8.
pub(crate) fn in_force(engine: Engine, client: &Runtime, table: &mut Table) {
    let data = tempfile::tempdir().unwrap();
    let database = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(Database::create()),
    };
    let url = database.as_ref().map(Database::url);
    // The first start makes the tables.
    Process::start(data.path(), url).end();
    let settings = match url {
        None => DatabaseSettings::sqlite(data.path().join("token-authority.db")),
        Some(url) => DatabaseSettings::postgres(url),
    };
    client.block_on(fill(&settings));
    let name = engine.name();
    let starts = (0..STARTS).map(|_| {
        let server = Process::start(data.path(), url);
        let figures = (
            server.ready.as_secs_f64(),
            server.processor_time().as_secs_f64(),
        );
        server.end();
        figures
    });
    let (ready, took): (Vec<_>, Vec<_>) = starts.unzip();
    let took = format!("{:.2} s", median(took));
    table.at_most(&format!("P8 {name}: ready after"), median(ready), 2.0, "s");
    let what = format!("P8 {name}: processor time of the server until then");
    table.line(&what, &took, "");
    let server = Process::start(data.path(), url);
    let resident = server.resident_mib();
    table.at_most(&format!("P8 {name}: resident"), resident, 150.0, "MiB");
    streams(&server, data.path(), client, name, table);
    let resident = server.resident_mib();
    let what = format!("P8 {name}: resident after {STREAMS} streams");
    table.at_most(&what, resident, 150.0, "MiB");
    server.end();
}

/// Reads everything, again and again.
fn streams(server: &Process, data: &Path, client: &Runtime, name: &str, table: &mut Table) {
    let token = client.block_on(administrator(server.grpc, data));
    let entries = f64::from(ENTRIES);
    let mut rates = Vec::new();
    let before = (server.processor_time(), processor_time("self"));
    for _ in 0..STREAMS {
        rates.push(client.block_on(async {
            let begun = Instant::now();
            let mut subscriber = Subscriber::open(server.grpc, &token, "").await;
            let count = subscriber.catch_up().await;
            assert!(count >= ENTRIES as usize);
            entries / begun.elapsed().as_secs_f64()
        }));
    }
    let (server_took, client_took) = (
        server.processor_time().saturating_sub(before.0),
        processor_time("self").saturating_sub(before.1),
    );
    let rate = median(rates);
    let what = format!("P8 {name}: one stream from the floor");
    table.at_least(&what, rate, 500_000.0, "entries/s");
    for (who, took) in [("server", server_took), ("subscriber", client_took)] {
        let each = took.as_secs_f64() / entries * 1e6 / f64::from(u8::try_from(STREAMS).unwrap());
        let what = format!("P8 {name}: processor time of the {who} for each entry");
        table.line(&what, &format!("{each:.2} us"), "");
    }
}

/// Writes entries as revoking would have left them: mostly sessions, and now and then a user.
async fn fill(settings: &DatabaseSettings) {
    let db = storage::Database::open(settings).await.unwrap();
    let head = storage::revocation_log::head(db.reader()).await.unwrap().0;
    let now = Clock::system().now();
    let spaces = [(); 4].map(|()| SpaceId::new(now).unwrap());
    let users = [(); 512].map(|()| UserId::new(now).unwrap());
    for begin in (0..ENTRIES).step_by(ROWS as usize) {
        let row = |number: u32| {
            let age = DECIDED_OVER * i64::from(ENTRIES - number) * 1_000_000 / i64::from(ENTRIES);
            let create_time = Timestamp::from_micros(now.micros() - age);
            let place = head + 1 + u64::from(number);
            let user = &users[number as usize % users.len()];
            let subject = match number % 50 {
                0 => Subject::User(user.clone()),
                _ => Subject::Session(SessionId::random().unwrap()),
            };
            let space = &spaces[number as usize % spaces.len()];
            row(place, &subject, space, create_time)
        };
        let rows: Vec<String> = (begin..begin + ROWS).map(row).collect();
        let sql = format!(
            "INSERT INTO revocation_log (position, event_id, kind, subject_kind, subject_id, space_id, \
             create_time, forget_time, reason) VALUES {}",
            rows.join(",")
        );
        let transaction = db.begin().await.unwrap();
        transaction.execute_unprepared(&sql).await.unwrap();
        transaction.commit().await.unwrap();
    }
    db.close().await;
}

fn row(place: u64, subject: &Subject, space: &SpaceId, create_time: Timestamp) -> String {
    let event_id = EventId::new(create_time).unwrap();
    let (kind, id) = subject.kind_and_id();
    let (created, forgotten) = (create_time.micros(), (create_time + FORGET_AFTER).micros());
    let reason = Reason::Logout as i32;
    format!("({place},'{event_id}',1,'{kind}','{id}','{space}',{created},{forgotten},{reason})")
}
