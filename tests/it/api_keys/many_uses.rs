//! Uses of many keys are written for many at a time, and are in nobody's way.

use sqlx::{Connection as _, PgConnection};
use token_authority::{authority::last_use, domain::ids::ApiKeyId, storage};

use crate::support::{Engine, Server, both, eventually, key, run_on, spawn};

const KEYS: usize = 1_200;

fn note(server: &Server, key: &ApiKeyId) {
    let (now, address) = (server.clock.now(), "192.0.2.1");
    server.authority.last_use.note(key, 1, address, now);
}

/// Whether a use is written down.
async fn is_used(server: &Server, caller: &str, key: &ApiKeyId) -> bool {
    let told = server.get_key(caller, key.as_str()).await.unwrap();
    let used = told.last_use_time.is_some();
    assert_eq!(told.last_use_address, if used { "192.0.2.1" } else { "" });
    used
}

both!(the_uses_of_many_keys_take_few_statements, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
    let keys = server.copies_of_key(&id, KEYS).await;
    for key in &keys {
        note(server, key);
    }
    let writing = last_use::write(&server.authority);
    let (statements, written) = server.statements_of(writing).await;
    written.unwrap();
    eprintln!("{statements} statements for the uses of {KEYS} keys");
    assert!(statements < KEYS as u64 / 20, "{statements} statements");
    for key in keys.iter().step_by(KEYS / 24) {
        assert!(is_used(server, &tenant.alice_token, key).await);
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_is_changing_is_kept_for_the_next_time() {
    run_on(Engine::Postgres, async |server| {
        let tenant = server.tenant("acme").await;
        let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        last_use::write(&server.authority).await.unwrap();
        let keys = server.copies_of_key(&id, 2).await;
        for key in &keys {
            note(server, key);
        }
        let (alice, now) = (&tenant.alice, server.clock.now());
        server.authority.last_use.note_sign_in(alice, now);

        let mut changing = connect(server).await;
        let mut change = changing.begin().await.unwrap();
        for sql in [
            format!(
                "UPDATE api_keys SET update_time = 1 WHERE api_key_id = '{}'",
                keys[0]
            ),
            format!("UPDATE users SET last_sign_in_time = NULL WHERE user_id = '{alice}'"),
        ] {
            let sql = sqlx::AssertSqlSafe(sql);
            sqlx::query(sql).execute(&mut *change).await.unwrap();
        }
        last_use::write(&server.authority).await.unwrap();
        change.commit().await.unwrap();
        let signed_in = async || {
            let db = server.authority.db.reader();
            let user = storage::users::describe(db, &alice.named())
                .await
                .unwrap()
                .unwrap();
            user.last_sign_in_time
        };
        assert!(!is_used(server, &tenant.alice_token, &keys[0]).await);
        assert!(is_used(server, &tenant.alice_token, &keys[1]).await);
        assert_eq!(signed_in().await, None);

        last_use::write(&server.authority).await.unwrap();
        assert!(is_used(server, &tenant.alice_token, &keys[0]).await);
        assert_eq!(signed_in().await, Some(now));
    })
    .await;
}

/// The writing is held up by a table that it comes to last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_revoked_while_uses_are_being_written() {
    run_on(Engine::Postgres, async |server| {
        let tenant = server.tenant("acme").await;
        let mut went_through = false;
        // Whatever waits for a lock gives up after 3 seconds: on a busy machine that may be before the revocation is through.
        for _ in 0..3 {
            let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
            note(server, &ApiKeyId::known(id.as_str()));
            let (alice, now) = (&tenant.alice, server.clock.now());
            server.authority.last_use.note_sign_in(alice, now);
            let mut locking = connect(server).await;
            let mut lock = locking.begin().await.unwrap();
            let sql = "LOCK TABLE users IN EXCLUSIVE MODE";
            sqlx::query(sql).execute(&mut *lock).await.unwrap();
            let authority = server.authority.clone();
            let writing = spawn(async move { last_use::write(&authority).await });
            eventually("the writing waits", async || {
                let sql = "SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted";
                let held_up = sqlx::query_scalar(sql).fetch_one(&mut *lock);
                let held_up: i64 = held_up.await.unwrap();
                held_up > 0 || writing.is_finished()
            })
            .await;
            let revoked = server.revoke_key(&tenant.alice_token, &id).await.unwrap();
            assert_eq!(revoked.effect.unwrap().effective, Some(true));
            went_through = !writing.is_finished();
            lock.rollback().await.unwrap();
            let written = writing.await.unwrap();
            if went_through {
                written.unwrap();
                break;
            }
        }
        assert!(went_through, "revocations wait for what is being written");
    })
    .await;
}

async fn connect(server: &Server) -> PgConnection {
    let url = server.database.url().unwrap();
    PgConnection::connect(url).await.unwrap()
}
