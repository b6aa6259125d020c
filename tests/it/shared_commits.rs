//! Sessions that are revoked at the same time share a commit, and nobody fails for another's sake.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Executor as _;
use token_authority::{
    authority::{
        audit,
        revocations::shared_commits::{Ended, Ending},
    },
    clock::Timestamp,
    domain::{
        ids::{SessionId, SpaceId},
        revocation::{Decision, Reason, Subject},
    },
    error::{Reason as Because, Result},
    proto::revocation_subject,
    storage::ConnectionTrait as _,
};
use tokio::time::Instant;
use tonic::Code;

use crate::support::{
    Engine, Proxy, Server, TestDatabase, Weather, address, as_caller, both, eventually, postgres,
    reason, revocation_of,
};

const MANY: usize = 64;

fn ending(space: &SpaceId, now: Timestamp) -> Ending {
    let session = SessionId::random().unwrap();
    let done = audit::Done {
        action: "session.revoke",
        space: Some(space),
        resource: session.as_str(),
        details: &[],
    };
    Ending {
        event: audit::event(audit::Actor::ITSELF, done, now).unwrap(),
        target: Decision::revocation(
            Subject::Session(session.clone()),
            Some(space.clone()),
            Reason::Logout,
        ),
        request: None,
    }
}

fn again(ending: &Ending) -> Ending {
    Ending {
        target: ending.target.clone(),
        event: ending.event.clone(),
        request: None,
    }
}

/// The log's head, and how often the audit log says that a session was revoked.
async fn written(server: &Server, action: &str) -> (u64, usize) {
    let wanted = token_authority::storage::audit::Wanted {
        action: Some(action.to_owned()),
        limit: 1000,
        ..Default::default()
    };
    let db = server.authority.db.reader();
    let events = token_authority::storage::audit::list(db, &wanted);
    let head = server.authority.log.catch_up().await.unwrap().position;
    (head.0, events.await.unwrap().len())
}

/// Ends them all while nobody can commit, so that those behind the first wait for one commit.
async fn end_together(server: &Server, endings: Vec<Ending>) -> Vec<Result<Ended>> {
    let authority = &server.authority;
    let held = authority.db.begin().await.unwrap();
    if server.database.engine() == Engine::Postgres {
        let lock = "LOCK TABLE audit_inbox IN EXCLUSIVE MODE";
        held.execute_unprepared(lock).await.unwrap();
    }
    let ending = endings
        .into_iter()
        .map(|ending| authority.shared_commits.end(ending));
    // All have asked before it is let go.
    let (ended, released) = tokio::join!(join_all(ending), held.rollback());
    released.unwrap();
    ended
}

async fn is_effective(ended: Ended) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    ended.pending.effect(until.into()).await.unwrap().effective
}

both!(what_waits_for_a_commit_shares_the_next, async |server| {
    let space = server.space("acme").await;
    let before = written(server, "session.revoke").await;
    let endings = (0..MANY)
        .map(|_| ending(&space, server.clock.now()))
        .collect();
    let ending = end_together(server, endings);
    let (statements, ended) = server.statements_of(ending).await;
    assert!(statements < MANY as u64, "{statements} statements");
    for ended in ended {
        assert!(is_effective(ended.unwrap()).await);
    }
    let after = written(server, "session.revoke").await;
    assert_eq!(after, (before.0 + MANY as u64, before.1 + MANY));
});

both!(nobody_fails_for_another_s_sake, async |server| {
    let space = server.space("acme").await;
    let before = written(server, "session.revoke").await;
    let mut endings: Vec<_> = (0..MANY)
        .map(|_| ending(&space, server.clock.now()))
        .collect();
    let refuse = match server.database.engine() {
        Engine::Sqlite => {
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_events WHEN NEW.resource_id = 'refused'
             BEGIN SELECT raise(ABORT, 'refused'); END"
        }
        Engine::Postgres => {
            "ALTER TABLE audit_inbox ADD CONSTRAINT refuse CHECK (resource_id <> 'refused')"
        }
    };
    let db = server.authority.db.begin().await.unwrap();
    db.execute_unprepared(refuse).await.unwrap();
    db.commit().await.unwrap();
    endings[MANY / 2].event.resource_id = "refused".to_owned();
    let mut failed = 0;
    for ended in end_together(server, endings).await {
        match ended {
            Ok(ended) => assert!(is_effective(ended).await),
            Err(error) => {
                assert_eq!(error.reason(), Because::Internal);
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 1);
    let after = written(server, "session.revoke").await;
    let done = MANY - 1;
    assert_eq!(after, (before.0 + done as u64, before.1 + done));
});

both!(
    a_session_that_is_revoked_twice_at_once_is_revoked,
    async |server| {
        let admin = server.admin().await.access_token;
        server.space("acme").await;
        let revocations = server.revocations().await;
        let before = written(server, "revocation.create").await;
        // Of each fourth pair both calls bear one idempotency key, so that one may have to give way.
        let calls = (0..MANY).map(|number| {
            let pair = number / 2;
            let session = revocation_subject::Subject::SessionId(format!("session-{pair}"));
            let mut request = revocation_of(session, "acme");
            if pair % 4 == 0 {
                request.idempotency_key = uuid::Uuid::from_u128(pair as u128 + 1).to_string();
            }
            let (mut revocations, request) = (revocations.clone(), as_caller(&admin, request));
            async move { revocations.create_revocation(request).await }
        });
        let answers: Vec<_> = join_all(calls).await;
        for (pair, answers) in answers.chunks(2).enumerate() {
            let mut given_way = 0;
            for answer in answers {
                match answer {
                    Ok(answer) => {
                        let effect = answer.get_ref().effect.as_ref().unwrap();
                        assert!(effect.effective(), "pair {pair}");
                    }
                    Err(status) => {
                        let expected = (Code::Aborted, "CONCURRENT_MODIFICATION".to_owned());
                        assert_eq!((status.code(), reason(status)), expected, "pair {pair}");
                        given_way += 1;
                    }
                }
            }
            let allowed = usize::from(pair % 4 == 0);
            assert!(given_way <= allowed, "pair {pair}: {answers:?}");
        }
        let after = written(server, "revocation.create").await;
        let entries = after.0 - before.0;
        // Two commits at the same moment may each make an entry of the same; one writer never does.
        let most = match server.database.engine() {
            Engine::Sqlite => MANY / 2,
            Engine::Postgres => MANY,
        } as u64;
        assert!((MANY as u64 / 2..=most).contains(&entries), "{entries}");
        assert_eq!((after.1 - before.1) as u64, entries);
    }
);

/// Commits that write audit events wait for whoever holds the lock 7.
const HELD_COMMITS: [&str; 3] = [
    "CREATE FUNCTION wait_for_seven() RETURNS trigger LANGUAGE plpgsql
     AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER held AFTER INSERT ON audit_inbox DEFERRABLE INITIALLY DEFERRED
     FOR EACH ROW EXECUTE FUNCTION wait_for_seven()",
    "SELECT pg_advisory_lock(7)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_answers_are_lost_are_told_as_such_and_last() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let proxy = Proxy::before(address(database.url().unwrap())).await;
    let server = Server::start(database.through(proxy.port)).await;
    let mut direct = postgres(&database).await.unwrap();
    let space = server.space("acme").await;
    let before = written(&server, "session.revoke").await;
    for sql in HELD_COMMITS {
        direct.execute(sql).await.unwrap();
    }
    let endings: Vec<Ending> = (0..MANY)
        .map(|_| ending(&space, server.clock.now()))
        .collect();
    let shared_commits = &server.authority.shared_commits;
    let ending = endings
        .iter()
        .map(|ending| shared_commits.end(again(ending)));
    let cut = async {
        eventually("a commit is held", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event = 'advisory'";
            let waiting: i64 = sqlx::query_scalar(waiting)
                .fetch_one(&mut direct)
                .await
                .unwrap();
            waiting > 0
        })
        .await;
        proxy.set(Weather::Cut);
    };
    let (ended, ()) = tokio::join!(join_all(ending), cut);
    for ended in ended {
        let error = ended.unwrap_err();
        assert_eq!(error.reason(), Because::DatabaseUnavailable);
    }
    direct
        .execute("SELECT pg_advisory_unlock(7)")
        .await
        .unwrap();
    proxy.set(Weather::Fair);

    eventually("what was committed is there", async || {
        let entries = "SELECT (SELECT count(*) FROM revocation_inbox) + (SELECT count(*) FROM revocation_log)";
        let entries: i64 = sqlx::query_scalar(entries).fetch_one(&mut direct).await.unwrap();
        u64::try_from(entries).unwrap() > before.0
    })
    .await;

    // Whoever asks again joins what lasts, and ends what does not.
    for ending in &endings {
        let mut ended = None;
        eventually("it is ended", async || {
            ended = shared_commits.end(again(ending)).await.ok();
            ended.is_some()
        })
        .await;
        assert!(is_effective(ended.unwrap()).await);
    }
    let after = written(&server, "session.revoke").await;
    assert_eq!(after, (before.0 + MANY as u64, before.1 + MANY));
    server.stop().await;
}
