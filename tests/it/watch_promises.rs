//! The promises of the revocation stream, each by its name.

use std::{collections::HashSet, time::Duration};

use token_authority::{
    domain::{
        ids::{EventId, SessionId},
        revocation::{Decision, Reason, Subject as Ended},
    },
    proto::{
        RevocationEvent, WatchRevocationsResponse, revocation_subject::Subject,
        watch_revocations_response::Message,
    },
    storage::revocation_log,
};

use crate::support::{
    Engine, PASSWORD, Server, TestDatabase, Watching, both, events_of, revocation_of, spawn,
};

const REVOKERS: usize = 8;
const EACH: usize = 25;

/// Revokes sessions from many sides at once; the entries as the revokers were told of them.
async fn storm(server: &Server, admin: &str) -> Vec<RevocationEvent> {
    let mut revoking = Vec::new();
    for revoker in 0..REVOKERS {
        let mut revocations = server.revocations().await;
        let admin = admin.to_owned();
        revoking.push(spawn(async move {
            let mut told = Vec::new();
            for number in 0..EACH {
                let session = Subject::SessionId(format!("session-{revoker}-{number}"));
                let request = revocation_of(session, "");
                let request = crate::support::as_caller(&admin, request);
                let created = revocations.create_revocation(request).await.unwrap();
                told.push(created.into_inner().event.unwrap());
            }
            told
        }));
    }
    let mut told = Vec::new();
    for revoker in revoking {
        told.extend(revoker.await.unwrap());
    }
    told.sort_by_key(|event| event.position);
    told
}

/// What a stream that was open all the while holds when a storm is over.
async fn watched_storm(server: &Server) -> (Vec<WatchRevocationsResponse>, Vec<RevocationEvent>) {
    let admin = server.admin().await.access_token;
    let mut watching = Watching::after(server, &admin, "").await;
    let told = storm(server, &admin).await;
    let messages = watching.until_position(told.last().unwrap().position).await;
    (messages, told)
}

both!(ordered, async |server| {
    let (messages, _) = watched_storm(server).await;
    let events = events_of(&messages);
    let first = events[0].position;
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    let dense: Vec<u64> = (first..).take(events.len()).collect();
    assert_eq!(positions, dense);
    assert!(messages.is_sorted_by_key(|message| message.position));
});

both!(unique, async |server| {
    let (messages, _) = watched_storm(server).await;
    let events = events_of(&messages);
    let ids: HashSet<&str> = events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), events.len());
});

both!(reliable, async |server| {
    let (messages, told) = watched_storm(server).await;
    assert_eq!(told.len(), REVOKERS * EACH);
    assert_eq!(events_of(&messages), told);
});

both!(atomic, async |server| {
    let admin = server.admin().await.access_token;
    let home = server.space("home").await;
    let ann = server.user(&home, "ann").await;
    for name in ["one", "two", "three"] {
        let space = server.space(name).await;
        server.role(&space, "reader", &["demo.read"]).await;
        server.assign(&space, &ann, "reader").await;
    }
    let mut watching = Watching::after(server, &admin, "").await;
    watching.until_caught_up().await;

    // What is not committed never happened.
    let undone = SessionId::known("undone");
    let decision = Decision::revocation(Ended::Session(undone), Some(home), Reason::Logout);
    let mut pending = server.authority.log.pending();
    let transaction = server.authority.db.begin().await.unwrap();
    let now = server.clock.now();
    pending.append(&transaction, &decision, now).await.unwrap();
    drop(transaction);
    drop(pending);

    // What is one change is there as a whole, and nothing stands between its entries.
    let operator = server.operator().await;
    let change = operator.set_password(&ann, PASSWORD);
    let (effect, _) = tokio::join!(change, storm(server, &admin));
    effect.unwrap();
    let head = server.authority.log.catch_up().await.unwrap().position.0;
    let events = events_of(&watching.until_position(head).await);
    assert!(!format!("{events:?}").contains("undone"));
    let of_ann: Vec<u64> = events
        .iter()
        .filter(|event| format!("{event:?}").contains(ann.as_str()))
        .map(|event| event.position)
        .collect();
    assert_eq!(of_ann, (of_ann[0]..of_ann[0] + 4).collect::<Vec<u64>>());
});

both!(resumable, async |server| {
    let (messages, told) = watched_storm(server).await;
    let admin = server.admin().await.access_token;
    let head = told.last().unwrap().position;
    for message in &messages {
        let rest: Vec<_> = told
            .iter()
            .filter(|event| event.position > message.position)
            .cloned()
            .collect();
        let mut resumed = Watching::after(server, &admin, &message.cursor).await;
        let resumed = resumed.until_caught_up().await;
        assert_eq!(
            events_of(&resumed),
            rest,
            "after {} of {head}",
            message.position
        );
    }
});

/// A stream outlives the server that began it.
async fn resumes_on_another_server(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        return;
    };
    let server = Server::start(database).await;
    let clock = server.clock.clone();
    let (messages, told) = watched_storm(&server).await;
    let admin = server.admin().await.access_token;
    let (database, data) = server.stop().await;
    let another = Server::start_in(database, data, clock, |_| {}).await;
    let middle = &messages[messages.len() / 2];
    let mut resumed = Watching::after(&another, &admin, &middle.cursor).await;
    let new = Subject::TokenId("after the change".replace(' ', "-"));
    let new = another
        .revoke_by_reference(&admin, new, "")
        .await
        .unwrap()
        .event
        .unwrap();
    let events = events_of(&resumed.until_position(new.position).await);
    let rest = told
        .into_iter()
        .filter(|event| event.position > middle.position);
    assert_eq!(events, rest.chain([new]).collect::<Vec<_>>());
    drop(resumed);
    another.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumable_on_another_server_sqlite() {
    resumes_on_another_server(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumable_on_another_server_postgres() {
    resumes_on_another_server(Engine::Postgres).await;
}

both!(bookmarkable, async |server| {
    // A cursor is a place, not a session: good for as often as it is used, whatever else goes on, message by message.
    let (messages, told) = watched_storm(server).await;
    let admin = server.admin().await.access_token;
    let bookmark = &messages[messages.len() / 3];
    let rest: Vec<_> = told
        .iter()
        .filter(|event| event.position > bookmark.position)
        .cloned()
        .collect();
    for _ in 0..3 {
        let mut resumed = Watching::after(server, &admin, &bookmark.cursor).await;
        let messages = resumed.until_caught_up().await;
        assert_eq!(messages[0].position, bookmark.position);
        assert_eq!(messages[0].cursor, bookmark.cursor);
        assert_eq!(events_of(&messages), rest);
    }
});

both!(bounded_staleness, async |server| {
    let admin = server.admin().await.access_token;
    let mut watching = Watching::after(server, &admin, "").await;
    watching.until_caught_up().await;
    let heartbeat = |message: &Message| matches!(message, Message::Heartbeat(_));
    for number in 0..3 {
        server.clock.advance(Duration::from_mins(1));
        let before = server.clock.now().seconds();
        let token = Subject::TokenId(format!("token-{number}"));
        let revoked = server.revoke_by_reference(&admin, token, "").await.unwrap();
        let position = revoked.effect.unwrap().position;
        let mut messages = watching.until(heartbeat).await;
        while messages.last().unwrap().position < position {
            messages.extend(watching.until(heartbeat).await);
        }
        // A heartbeat that covers the revocation comes after it, and dates from a read that began after it.
        assert_eq!(events_of(&messages), [revoked.event.unwrap()]);
        let last = messages.last().unwrap();
        assert_eq!(last.position, position);
        let Some(Message::Heartbeat(heartbeat)) = &last.message else {
            panic!("a heartbeat");
        };
        assert!(heartbeat.read_time.unwrap().seconds >= before);
    }
});

both!(durable_before_streamed, async |server| {
    let admin = server.admin().await.access_token;
    let mut watching = Watching::after(server, &admin, "").await;
    watching.until_caught_up().await;
    let watched = async {
        let mut seen = 0;
        while seen < REVOKERS * EACH {
            for event in events_of(&[watching.message().await]) {
                let id = EventId::known(event.event_id);
                let found = revocation_log::find_event(server.authority.db.reader(), &id).await;
                let found = found.unwrap().expect("it is in the database");
                assert_eq!(found.position.unwrap().0, event.position);
                seen += 1;
            }
        }
    };
    tokio::join!(watched, storm(server, &admin));
});

both!(idempotent, async |server| {
    // However often an entry is delivered, it is the same entry, and tells that it is.
    let (messages, told) = watched_storm(server).await;
    let admin = server.admin().await.access_token;
    let again = Watching::after(server, &admin, "")
        .await
        .until_caught_up()
        .await;
    assert_eq!(events_of(&again), events_of(&messages));
    let from_one = Watching::after(server, &admin, &messages[1].cursor)
        .await
        .until_caught_up()
        .await;
    for event in events_of(&from_one) {
        assert!(told.contains(&event));
    }
});
