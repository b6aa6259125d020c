//! A clock that is wrong for a while, as after a bad start of the machine, forgets no revocation.

use std::time::Duration;

use token_authority::{
    clock::Clock,
    proto::{self, revocation_subject::Subject},
};

use crate::support::{Engine, Server, TestDatabase, Watching, as_caller, events_of, span};

const HOUR: Duration = Duration::from_hours(1);

/// A server on a database of its own; none where there is no PostgreSQL.
async fn started(engine: Engine, clock: Clock) -> Option<Server> {
    let database = TestDatabase::create(engine).await?;
    let data = tempfile::tempdir().unwrap();
    Some(Server::start_in(database, data, clock, |_| {}).await)
}

async fn restarted(server: Server, clock: Clock) -> Server {
    let (database, data) = server.stop().await;
    Server::start_in(database, data, clock, |_| {}).await
}

async fn a_revocation_by_a_clock_that_is_days_behind_holds_when_it_is_right_again(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES names no server");
        return;
    };
    let server = Server::start(database).await;
    let right = server.clock.now();
    let token = server.admin().await;
    let presented = server.admin().await.access_token;
    let other = server.admin().await.access_token;
    let any = Subject::SessionId("any".to_owned());
    let before = server.revoke_by_reference(&other, any, "").await.unwrap();

    let server = restarted(server, Clock::set_to(right - HOUR * 72)).await;
    let caller = server.admin().await.access_token;
    let session = Subject::SessionId(token.session_id.clone());
    let revoked = server.revoke_by_reference(&caller, session, "").await;
    let revoked = revoked.unwrap();
    let effect = revoked.effect.unwrap();
    assert_eq!(effect.effective, Some(true));
    let told = revoked.event.unwrap().create_time;
    assert_eq!(told, before.event.as_ref().unwrap().create_time);
    // What is not good yet will be again: it is ended all the same.
    let ended = server.revoke(&presented).await.unwrap();
    assert_eq!(ended.effective, Some(true));

    let server = restarted(server, Clock::set_to(right + HOUR)).await;
    assert!(server.verdict(&other, &token.access_token).await.is_err());
    assert!(server.verdict(&other, &presented).await.is_err());
    let mut stream = crate::support::Watching::open(
        &server,
        &other,
        proto::WatchRevocationsRequest {
            heartbeat_interval: span(1),
            ..Default::default()
        },
    )
    .await
    .unwrap();
    let seen = crate::support::events_of(&stream.until_caught_up().await);
    let entry = seen.iter().find(|entry| entry.position == effect.position);
    let entry = entry.expect("the entry is in force for subscribers, too");
    assert_eq!(entry.create_time, before.event.unwrap().create_time);
    let kept = entry.forget_time.unwrap().seconds - entry.create_time.unwrap().seconds;
    assert_eq!(kept, 25 * 60 * 60);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    a_revocation_by_a_clock_that_is_days_behind_holds_when_it_is_right_again(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    a_revocation_by_a_clock_that_is_days_behind_holds_when_it_is_right_again(Engine::Postgres)
        .await;
}

async fn is_revoked(server: &Server, caller: &str, token: &str) -> bool {
    server.verdict(caller, token).await == Err(proto::InactiveReason::Revoked)
}

async fn revoke_any(server: &Server, caller: &str, session: &str) {
    let any = Subject::SessionId(session.to_owned());
    server.revoke_by_reference(caller, any, "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_for_a_while_brings_nothing_to_life() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let right = Clock::system().now();
        let Some(server) = started(engine, Clock::set_to(right)).await else {
            continue;
        };
        let caller = server.admin().await.access_token;
        let dead = server.admin().await.access_token;
        server.revoke(&dead).await.unwrap();
        revoke_any(&server, &caller, "newer").await;
        server.clock.set(right + HOUR * 49);
        for believed in [None, Some(server.clock.now())] {
            server.authority.log.forget(believed).await.unwrap();
        }
        server.clock.set(right + HOUR);
        assert!(is_revoked(&server, &caller, &dead).await, "in memory");
        let server = restarted(server, Clock::set_to(right + HOUR)).await;
        assert!(is_revoked(&server, &caller, &dead).await, "in the table");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_quiet_is_not_fooled_by_a_clock_that_is_days_behind() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let right = Clock::system().now();
        let Some(server) = started(engine, Clock::set_to(right - HOUR * 72)).await else {
            continue;
        };
        let caller = server.admin().await.access_token;
        revoke_any(&server, &caller, "old").await;
        server.clock.set(right);
        server.authority.log.forget(Some(right)).await.unwrap();
        let caller = server.admin().await.access_token;
        let dead = server.admin().await;

        let server = restarted(server, Clock::set_to(right - HOUR * 72)).await;
        let behind = server.admin().await.access_token;
        revoke_any(&server, &behind, &dead.session_id).await;

        let server = restarted(server, Clock::set_to(right + HOUR)).await;
        revoke_any(&server, &caller, "newer").await;
        for _ in 0..2 {
            let now = server.clock.now();
            server.authority.log.forget(Some(now)).await.unwrap();
        }
        assert!(is_revoked(&server, &caller, &dead.access_token).await);
        let server = restarted(server, Clock::set_to(right + HOUR)).await;
        assert!(is_revoked(&server, &caller, &dead.access_token).await);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_the_future_leaves_nothing_out_of_streams_and_lists() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let right = Clock::system().now();
        let Some(server) = started(engine, Clock::set_to(right)).await else {
            continue;
        };
        let caller = server.admin().await.access_token;
        revoke_any(&server, &caller, "now").await;
        server.clock.set(right + HOUR * 48);
        let ahead = server.admin().await.access_token;
        revoke_any(&server, &ahead, "then").await;
        let mut stream = Watching::after(&server, &ahead, "").await;
        let seen_then = events_of(&stream.until_caught_up().await);
        drop(stream);
        server.clock.set(right);

        let server = restarted(server, Clock::set_to(right)).await;
        let mut stream = Watching::after(&server, &caller, "").await;
        let seen = events_of(&stream.until_caught_up().await);
        drop(stream);
        let request = as_caller(&caller, proto::ListRevocationsRequest::default());
        let listed = server.revocations().await.list_revocations(request).await;
        let listed = listed.unwrap().into_inner().events;
        for events in [seen_then, seen, listed] {
            let subjects: Vec<_> = events
                .into_iter()
                .filter_map(|event| event.subject)
                .collect();
            let subjects: Vec<_> = subjects.into_iter().filter_map(|one| one.subject).collect();
            let wanted = ["now", "then"].map(|id| Subject::SessionId(id.to_owned()));
            assert_eq!(subjects, wanted);
        }
        server.stop().await;
    }
}
