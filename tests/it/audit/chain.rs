//! Every event gets into the chain, whenever it is committed and whatever stops the server in between.

use std::collections::BTreeSet;

use token_authority::{
    authority::audit::{self, Actor, Done},
    clock::Clock,
    proto::{self, revocation_subject::Subject},
    server::{database_settings, verify_audit},
    storage::{self, ConnectionTrait as _, Database},
};

use super::{kept, listed, verdict};
use crate::support::{
    Engine, Server, TestDatabase, as_caller, both, eventually, key, revocation_of, run_on,
    settings, spawn,
};

both!(what_is_done_is_in_the_chain_soon, async |server| {
    let tenant = server.tenant("acme").await;
    eventually("everything is chained", async || {
        verdict(server).await.not_chained == 0
    })
    .await;
    let events = listed(
        server,
        &tenant.root_token,
        proto::ListAuditEventsRequest::default(),
    )
    .await;
    let mut places: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    places.sort_unstable();
    assert!(places.iter().copied().eq(1..=events.len() as u64));
    assert!(events.iter().all(|event| event.digest.len() == 64));
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_an_event_is_chained_when_it_is_committed() {
    run_on(Engine::Sqlite, async |server| {
        let tenant = server.tenant("acme").await;
        for _ in 0..10 {
            server.made_key(&tenant.alice_token, key(&[])).await;
            assert_eq!(verdict(server).await.not_chained, 0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_event_that_is_committed_late_is_chained_behind_those_before_it() {
    run_on(Engine::Postgres, async |server| {
        let db = &server.authority.db;
        let late = server.begin_and_stay().await;
        let now = server.clock.now();
        audit::record(&late, Actor::ITSELF, done("late"), now)
            .await
            .unwrap();
        for _ in 0..5 {
            let early = db.begin().await.unwrap();
            audit::record(&early, Actor::ITSELF, done("early"), now)
                .await
                .unwrap();
            early.commit().await.unwrap();
        }
        let before = kept(server).await;
        late.commit().await.unwrap();
        assert_eq!(kept(server).await, before + 1);
        let root = server.admin().await.access_token;
        let request = proto::ListAuditEventsRequest {
            resource_id: "late".to_owned(),
            ..Default::default()
        };
        let events = listed(server, &root, request).await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].sequence, before + 1);
    })
    .await;
}

both!(
    the_chain_is_good_at_every_moment_of_a_storm,
    async |server| {
        let root = server.admin().await.access_token;
        let mut writers = Vec::new();
        for writer in 0..8 {
            let mut revocations = server.revocations().await;
            let root = root.clone();
            writers.push(spawn(async move {
                for number in 0..40 {
                    let subject = Subject::TokenId(format!("token-{writer}-{number}"));
                    let request = revocation_of(subject, "");
                    let request = as_caller(&root, request);
                    revocations.create_revocation(request).await.unwrap();
                }
            }));
        }
        let mut looks = 0;
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            verdict(server).await.chain.unwrap();
            looks += 1;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(looks > 3 && kept(server).await >= 320);
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_in_good_order_leaves_nothing_to_chain() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(database) = TestDatabase::create(engine).await else {
            continue;
        };
        let server = Server::start(database).await;
        let tenant = server.tenant("acme").await;
        server.made_key(&tenant.alice_token, key(&[])).await;
        let (database, data) = server.stop().await;
        let verdict = verify_audit(&settings(&database, &data)).await.unwrap();
        assert!(verdict.chain.unwrap().sequence > 5);
        assert_eq!(verdict.not_chained, 0);
    }
}

both!(whatever_an_event_says_its_link_says, async |server| {
    let odd = [
        "0",
        "1e5",
        "null",
        "[]",
        " a ",
        "\"'\\/",
        "\n\t\u{1}\u{1f}\u{7f}",
        "é\u{301}日本\u{1f980}\u{feff}\u{ffff}",
    ];
    let transaction = server.authority.db.begin().await.unwrap();
    for odd in odd {
        let done = Done {
            details: &[("odd", odd)],
            ..done(odd)
        };
        audit::record(&transaction, Actor::ITSELF, done, server.clock.now())
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    let kept = kept(server).await;
    let verdict = verdict(server).await;
    assert_eq!(
        (verdict.chain.unwrap().sequence, verdict.not_chained),
        (kept, 0)
    );
    let root = server.admin().await.access_token;
    let request = proto::ListAuditEventsRequest {
        action: done("").action.to_owned(),
        ..Default::default()
    };
    let listed = listed(server, &root, request).await;
    let said: BTreeSet<_> = listed
        .iter()
        .map(|event| (event.resource_id.as_str(), event.details["odd"].as_str()))
        .collect();
    assert_eq!(said, BTreeSet::from(odd.map(|odd| (odd, odd))));
});

/// Something done.
fn done(resource: &str) -> Done<'_> {
    Done {
        action: "test.commit",
        space: None,
        resource,
        details: &[],
    }
}

/// As if a server had been stopped before it chained anything.
const UNCHAIN: [&str; 2] = [
    "INSERT INTO audit_inbox SELECT audit_event_id, event_time, space_id, actor_user_id, actor_api_key_id, action, resource_id,
                                    outcome, error_reason, client_address, request_id, details FROM audit_events",
    "DELETE FROM audit_events",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_were_left_over_are_chained_at_the_next_start() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(database) = TestDatabase::create(engine).await else {
            continue;
        };
        let server = Server::start(database).await;
        server.tenant("acme").await;
        // More than are chained in one step.
        let transaction = server.authority.db.begin().await.unwrap();
        for _ in 0..700 {
            let now = server.clock.now();
            audit::record(&transaction, Actor::ITSELF, done("many"), now)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        let count = kept(&server).await;
        let key = server.authority.db.audit_key().unwrap().clone();
        let (database, data) = server.stop().await;
        let left = database_settings(&settings(&database, &data));
        let db = Database::open(&left).await.unwrap();
        let transaction = db.begin().await.unwrap();
        for sql in UNCHAIN {
            transaction.execute_unprepared(sql).await.unwrap();
        }
        storage::audit::begin(&transaction, &key).await.unwrap();
        transaction.commit().await.unwrap();
        db.close().await;
        drop(db);

        let server = Server::start_in(database, data, Clock::system(), |_| {}).await;
        eventually("what was left over is chained", async || {
            verdict(&server).await.not_chained == 0
        })
        .await;
        assert!(verdict(&server).await.chain.unwrap().sequence >= count);
        server.stop().await;
    }
}
