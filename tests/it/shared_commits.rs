//! Sessions that are revoked at the same time share a commit, and nobody fails for another's sake.

use futures_util::future::join_all;
use token_authority::{
    authority::{audit, revocations::shared_commits::Ending},
    clock::Timestamp,
    domain::{
        ids::{SessionId, SpaceId},
        revocation::{Decision, Reason, Subject},
    },
    proto::{self, revocation_subject},
    storage::ConnectionTrait as _,
};
use tonic::{Code, Response};

use crate::support::{Engine, Server, as_caller, both, reason, revocation_of};

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

both!(what_waits_for_a_commit_shares_the_next, async |server| {
    let (authority, now) = (&server.authority, server.clock.now());
    let space = server.space("acme").await;
    let before = written(server, "session.revoke").await;
    // Nobody can commit meanwhile.
    let held = authority.db.begin().await.unwrap();
    if server.database.engine() == Engine::Postgres {
        let lock = "LOCK TABLE audit_events IN EXCLUSIVE MODE";
        held.execute_unprepared(lock).await.unwrap();
    }
    let statements = authority.db.query_count();
    let ending = join_all((0..MANY).map(|_| authority.shared_commits.end(ending(&space, now))));
    // All have asked before it is let go.
    let (ended, released) = tokio::join!(ending, held.rollback());
    released.unwrap();
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    for ended in ended {
        let effect = ended.unwrap().pending.effect(until.into()).await.unwrap();
        assert!(effect.effective);
    }
    let statements = authority.db.query_count() - statements;
    assert!(statements < 2 * MANY as u64, "{statements} statements");
    let after = written(server, "session.revoke").await;
    let many = MANY as u64;
    assert_eq!(after, (before.0 + many, before.1 + MANY));
});

both!(
    a_call_that_fails_keeps_no_other_from_its_revocation,
    async |server| {
        let admin = server.admin().await.access_token;
        server.space("acme").await;
        let revocations = server.revocations().await;
        let before = written(server, "revocation.create").await;
        // Each session twice; of each fourth pair both calls bear one idempotency key, so that one may have to give way.
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
            let effective = |answer: &Response<proto::CreateRevocationResponse>| {
                answer.get_ref().effect.as_ref().unwrap().effective()
            };
            let mut given_way = 0;
            for answer in answers {
                match answer {
                    Ok(answer) => assert!(effective(answer), "pair {pair}"),
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
        assert_eq!(after, (before.0 + MANY as u64 / 2, before.1 + MANY / 2));
    }
);
