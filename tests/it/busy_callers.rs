//! Whoever is busy cannot hold off that their account ends: those who share a row must not pass by whoever waits to change it.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use token_authority::{
    domain::ids::UserId,
    storage::{Database, Transaction, users},
};
use tokio::time::timeout;

use crate::support::{Engine, eventually, run_on, spawn};

/// Longer than it takes to share a row that nobody waits for.
const HELD_UP: Duration = Duration::from_millis(500);

/// The user's row, as a call of theirs has it.
async fn shared(db: &Database, user: &UserId) -> Transaction {
    let transaction = db.begin().await.unwrap();
    users::lock_shared(&transaction, user).await.unwrap();
    transaction
}

/// Has the row until `over`, by one call after the other: each begins before the one before it ends, unless it is held up.
async fn keep_busy(db: Database, user: UserId, begun: Arc<AtomicBool>, over: Arc<AtomicBool>) {
    let mut held = shared(&db, &user).await;
    while !over.load(Ordering::SeqCst) {
        begun.store(true, Ordering::SeqCst);
        let mut next = pin!(shared(&db, &user));
        let in_time = timeout(HELD_UP, &mut next).await;
        held.rollback().await.unwrap();
        held = match in_time {
            Ok(next) => next,
            Err(_) => next.await,
        };
    }
    held.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_busy_is_disabled_all_the_same() {
    run_on(Engine::Postgres, async |server| {
        let acme = server.tenant("acme").await;
        let operator = server.operator().await;
        let (begun, over) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let busy = spawn(keep_busy(
            server.authority.db.clone(),
            acme.alice.clone(),
            Arc::clone(&begun),
            Arc::clone(&over),
        ));
        eventually("they are busy", async || begun.load(Ordering::SeqCst)).await;
        let effect = operator.set_disabled(&acme.alice, true).await;
        over.store(true, Ordering::SeqCst);
        assert!(effect.unwrap().effective());
        busy.await.unwrap();
    })
    .await;
}
