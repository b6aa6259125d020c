//! A transaction that began first and commits last: what a poller over a sequence loses, and the log does not.
//!
//! Both readers are put to the same check, over the same order of events, so that the check is known to be able to fail.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use token_authority::{
    domain::{
        ids::TokenId,
        revocation::{Decision, Position, Reason, Subject},
    },
    log::{Effect, Pending},
    proto,
    storage::Transaction,
};

use crate::support::{Engine, Server, TestDatabase, Watching, events_of, soon};

/// Whether a reader holds what was committed: all of it, once.
pub(crate) fn holds_exactly(held: &[String], committed: &[String]) -> Result<(), String> {
    let sorted = |ids: &[String]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    let (held, committed) = (sorted(held), sorted(committed));
    if held == committed {
        return Ok(());
    }
    let lost = committed.iter().filter(|id| !held.contains(id)).count();
    Err(format!(
        "{lost} of {} lost, {} held",
        committed.len(),
        held.len()
    ))
}

/// Reads on from the largest number it has seen.
struct NaivePoller {
    connection: PgConnection,
    last: i64,
    held: Vec<String>,
}

impl NaivePoller {
    async fn poll(&mut self) {
        let sql = "SELECT id, event FROM naive WHERE id > $1 ORDER BY id";
        let rows: Vec<(i64, String)> = sqlx::query_as(sql)
            .bind(self.last)
            .fetch_all(&mut self.connection)
            .await
            .unwrap();
        for (id, event) in rows {
            self.last = id;
            self.held.push(event);
        }
    }
}

#[tokio::test]
async fn a_poller_over_a_sequence_loses_what_commits_late() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let connect = || PgConnection::connect(database.url().unwrap());
    let (mut late, mut early) = (connect().await.unwrap(), connect().await.unwrap());
    late.execute("CREATE TABLE naive (id bigserial PRIMARY KEY, event text NOT NULL)")
        .await
        .unwrap();
    let mut poller = NaivePoller {
        connection: connect().await.unwrap(),
        last: 0,
        held: Vec::new(),
    };
    let mut first = late.begin().await.unwrap();
    first
        .execute("INSERT INTO naive (event) VALUES ('late')")
        .await
        .unwrap();
    early
        .execute("INSERT INTO naive (event) VALUES ('early')")
        .await
        .unwrap();
    poller.poll().await;
    first.commit().await.unwrap();
    poller.poll().await;
    let committed = ["late".to_owned(), "early".to_owned()];
    let verdict = holds_exactly(&poller.held, &committed);
    assert_eq!(verdict, Err("1 of 2 lost, 1 held".to_owned()));
}

/// A revocation that is written and not committed yet.
async fn begun(server: &Server, token: &str) -> (Transaction, Pending) {
    let token = Subject::Token(TokenId::known(token));
    let space = server.system().await;
    let decision = Decision::revocation(token, Some(space), Reason::Logout);
    let mut pending = server.authority.log.pending();
    let transaction = server.begin_and_stay().await;
    let now = server.clock.now();
    pending.append(&transaction, &decision, now).await.unwrap();
    (transaction, pending)
}

async fn ended((transaction, pending): (Transaction, Pending)) -> (String, Effect) {
    let (event_id, _) = pending.first().unwrap();
    transaction.commit().await.unwrap();
    (event_id.to_string(), pending.effect(soon()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_holds_what_commits_late() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let mut watching = Watching::after(&server, &admin, "").await;
    let late = begun(&server, "late").await;
    let early = begun(&server, "early").await;
    let (early, early_effect) = ended(early).await;
    let place = early_effect.position.unwrap();
    let mut held = events_of(&watching.until_position(place.0).await);
    // By now the bound of the scan has been renewed at least once; the late one is above it all the same.
    for _ in 0..100 {
        server.authority.log.catch_up().await.unwrap();
    }
    let (late, late_effect) = ended(late).await;
    assert_eq!(
        late_effect.position,
        Some(place.next()),
        "places go by commit"
    );
    held.extend(events_of(&watching.until_position(place.0 + 1).await));
    let held: Vec<String> = held.into_iter().map(|event| event.event_id).collect();
    assert_eq!(holds_exactly(&held, &[late, early]), Ok(()));
    drop(watching);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_is_not_forgotten_with_what_was_decided_before_it() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let token = server.admin().await;
    let late = begun(&server, &token.token_id).await;
    server.clock.advance(Duration::from_secs(2));
    let (_, early) = ended(begun(&server, "early").await).await;
    let (_, late) = ended(late).await;
    assert!(late.position > early.position, "places go by commit");
    assert!(late.commit_time < early.commit_time);
    assert!(late.effective);

    // The early one is the oldest of the log.
    assert_eq!(early.position, Some(Position(1)));
    server.authority.log.forget(None).await.unwrap();
    let revoked = Err(proto::InactiveReason::Revoked);
    assert_eq!(server.verdict(&admin, &token.access_token).await, revoked);
    server.stop().await;
}
