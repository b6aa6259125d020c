//! Keys that another process changes: this one learns of it from the log. On PostgreSQL, where others can write.

use token_authority::{
    domain::{
        ids::{EventId, SigningKeyId},
        revocation::{Decision, FORGET_AFTER, Reason, Subject},
        signing_key::State,
    },
    server,
    storage::{Database, Transaction, revocation_log, signing_keys},
};

use super::kid_of;
use crate::support::{Engine, Server, TestDatabase, eventually, settings};

/// Begins a change as another server would.
async fn begin(other: &Database) -> Transaction {
    let transaction = other.begin().await.unwrap();
    signing_keys::lock(&transaction).await.unwrap();
    transaction
}

async fn append(transaction: &Transaction, decision: &Decision, server: &Server) {
    let now = server.clock.now();
    let id = EventId::new(now).unwrap();
    let appended = [(&id, decision)];
    revocation_log::append(transaction, &appended, now, FORGET_AFTER)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_another_process_changes_are_followed() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES names no server");
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let settings = server::database_settings(&settings(&server.database, &server.data));
    let other = Database::open(&settings).await.unwrap();
    let now = server.clock.now();

    // It has the prepared key sign.
    let transaction = begin(&other).await;
    let keys = signing_keys::published(&transaction).await.unwrap();
    let in_state = |state| {
        let mut keys = keys.iter().map(|key| key.described.clone());
        keys.find(|key| key.life.state == state).unwrap()
    };
    let (mut active, mut next) = (in_state(State::Active), in_state(State::Prepared));
    active.life = active.life.retire(now).unwrap();
    next.life = next.life.activate(now, true).unwrap();
    signing_keys::update(&transaction, &active).await.unwrap();
    signing_keys::update(&transaction, &next).await.unwrap();
    let changed = Decision::change(Subject::SigningKey(next.id.clone()), None);
    append(&transaction, &changed, &server).await;
    transaction.commit().await.unwrap();
    eventually("it signs with the other key", async || {
        kid_of(&server.admin().await.access_token) == next.id.as_str()
    })
    .await;
    let fresh = server.admin().await.access_token;
    server.verdict(&fresh, &admin).await.unwrap();

    // It revokes the key before.
    let transaction = begin(&other).await;
    let before = SigningKeyId::known(kid_of(&admin));
    let mut revoked = signing_keys::find(&transaction, &before)
        .await
        .unwrap()
        .unwrap();
    revoked.life = revoked.life.revoke(now).unwrap();
    signing_keys::update(&transaction, &revoked).await.unwrap();
    let reason = Reason::Compromised;
    let killed = Decision::revocation(Subject::SigningKey(before.clone()), None, reason);
    append(&transaction, &killed, &server).await;
    transaction.commit().await.unwrap();
    eventually("its tokens are dead", async || {
        server.verdict(&fresh, &admin).await.is_err()
    })
    .await;
    assert!(!server.jwks().await.contains(before.as_str()));
    other.close().await;
    server.stop().await;
}
