//! What is due happens by itself: by the clock, and once.

use std::{sync::Arc, time::Duration};

use token_authority::{
    authority::signing_keys::rotation,
    clock::Clock,
    config::{Settings, SigningAlgorithm},
    proto::SigningKeyState as State,
};

use super::{DAY, NOTICE, kid_of};
use crate::{
    audit::rows,
    support::{Engine, Server, TestDatabase, both, eventually, spawn},
};

const MONTH: Duration = Duration::from_hours(30 * 24);

both!(a_key_signs_for_thirty_days, async |server| {
    let admin = server.admin().await.access_token;
    let first = server.id(&admin, State::Active).await;
    let second = server.id(&admin, State::Prepared).await;
    server
        .clock
        .advance(MONTH.saturating_sub(Duration::from_secs(1)));
    server.rotate_keys().await;
    assert_eq!(kid_of(&server.admin().await.access_token), first);

    server.clock.advance(Duration::from_secs(1));
    server.rotate_keys().await;
    let admin = server.admin().await.access_token;
    assert_eq!(kid_of(&admin), second);
    assert_eq!(server.id(&admin, State::Retiring).await, first);
    let third = server.id(&admin, State::Prepared).await;
    // No second time, however often it is looked at.
    for _ in 0..3 {
        server.rotate_keys().await;
    }
    assert_eq!(server.keys(&admin).await.len(), 3);

    // K02: it leaves the set when its last token has expired, and leeway and copies of the set have run out.
    let last = server.admin().await.access_token;
    let published =
        DAY + Duration::from_hours(1) + Duration::from_mins(5) + Duration::from_secs(30);
    server
        .clock
        .advance(published.saturating_sub(Duration::from_micros(1)));
    server.rotate_keys().await;
    assert!(server.jwks().await.contains(&first));
    server.clock.advance(Duration::from_micros(1));
    server.rotate_keys().await;
    let jwks = server.jwks().await;
    assert!(!jwks.contains(&first) && jwks.contains(&second) && jwks.contains(&third));
    let admin = server.admin().await.access_token;
    assert_eq!(server.id(&admin, State::Retired).await, first);
    assert!(super::expiry_of(&last) < server.clock.now().seconds());
});

both!(those_that_look_at_once_rotate_once, async |server| {
    for round in 1..=3 {
        server.clock.advance(MONTH);
        let looking: Vec<_> = (0..8)
            .map(|_| {
                let authority = Arc::clone(&server.authority);
                spawn(async move { rotation::rotate(&authority).await })
            })
            .collect();
        for look in looking {
            look.await.unwrap().unwrap();
        }
        assert_eq!(rows(server, "signing_key.activate").await.len(), round);
        assert_eq!(rows(server, "signing_key.prepare").await.len(), round);
        let admin = server.admin().await.access_token;
        assert_eq!(server.ids(&admin, State::Active).await.len(), 1);
        assert_eq!(server.ids(&admin, State::Prepared).await.len(), 1);
    }
});

both!(
    a_key_that_is_due_signs_on_until_the_next_one_is_known_to_verifiers,
    async |server| {
        // The next one is made 5 minutes before the key is due: 10 minutes later it may sign.
        server.clock.advance(MONTH.saturating_sub(NOTICE / 2));
        let admin = server.admin().await.access_token;
        let first = server.id(&admin, State::Active).await;
        let prepared = server.id(&admin, State::Prepared).await;
        server.revoke_signing_key(&admin, &prepared).await.unwrap();
        server
            .clock
            .advance(NOTICE.saturating_sub(Duration::from_secs(1)));
        server.rotate_keys().await;
        assert_eq!(kid_of(&server.admin().await.access_token), first);
        server.clock.advance(Duration::from_secs(1));
        server.rotate_keys().await;
        assert_ne!(kid_of(&server.admin().await.access_token), first);
    }
);

/// A server with other settings, in the data directory of another one where that is given.
async fn started(
    engine: Engine,
    clock: &Clock,
    adjust: impl FnOnce(&mut Settings),
) -> Option<Server> {
    let database = TestDatabase::create(engine).await?;
    let data = tempfile::tempdir().unwrap();
    Some(Server::start_in(database, data, clock.clone(), adjust).await)
}

async fn a_server_that_was_away_rotates_when_it_is_back(engine: Engine) {
    let clock = Clock::set_to(Clock::system().now());
    let Some(server) = started(engine, &clock, |_| {}).await else {
        return;
    };
    let first = kid_of(&server.admin().await.access_token);
    let (database, data) = server.stop().await;
    clock.advance(MONTH + MONTH);
    // Nobody asks for it here: the task does, as soon as the server runs.
    let server = Server::start_in(database, data, clock.clone(), |_| {}).await;
    eventually("the key rotates", async || {
        kid_of(&server.admin().await.access_token) != first
    })
    .await;
    server.stop().await;
}

async fn a_server_rotates_as_it_is_told(engine: Engine) {
    let clock = Clock::set_to(Clock::system().now());
    let adjust = |settings: &mut Settings| {
        settings.signing_keys.algorithm = SigningAlgorithm::Es256;
        settings.signing_keys.rotation_period = Duration::from_hours(2);
    };
    let Some(server) = started(engine, &clock, adjust).await else {
        return;
    };
    let admin = server.admin().await.access_token;
    for key in server.keys(&admin).await {
        assert_eq!(
            key.algorithm(),
            token_authority::proto::SigningAlgorithm::Es256
        );
    }
    let first = kid_of(&admin);
    clock.advance(Duration::from_hours(2));
    server.rotate_keys().await;
    let second = server.admin().await.access_token;
    assert_ne!(kid_of(&second), first);
    server.verdict(&second, &admin).await.unwrap();
    let (database, data) = server.stop().await;

    let never = |settings: &mut Settings| settings.signing_keys.rotation_period = Duration::ZERO;
    let server = Server::start_in(database, data, clock.clone(), never).await;
    clock.advance(MONTH);
    server.rotate_keys().await;
    let third = server.admin().await.access_token;
    assert_eq!(kid_of(&third), kid_of(&second));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn away_sqlite() {
    a_server_that_was_away_rotates_when_it_is_back(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn away_postgres() {
    a_server_that_was_away_rotates_when_it_is_back(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_sqlite() {
    a_server_rotates_as_it_is_told(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_postgres() {
    a_server_rotates_as_it_is_told(Engine::Postgres).await;
}
