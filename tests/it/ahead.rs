//! Tokens whose `rev` is ahead of the log: of a log that has lost its end.

use serde_json::json;
use token_authority::{
    authority::credentials::Inactive, domain::signing_key::State, error::Reason,
    proto::revocation_subject::Subject,
};

use crate::support::{Forger, Server, both};

const CALLS: u64 = 1_000;

/// A good token but for its `rev`, and what that is.
async fn ahead(server: &Server, by: u64) -> (String, u64) {
    let good = server.admin().await.access_token;
    let forger = Forger::with_stolen(server, State::Active, &good).await;
    let rev = server.authority.log.head().await.unwrap().0 + by;
    (forger.with_claim("rev", Some(json!(rev))), rev)
}

/// Why it cannot be known whether a token is good; none where it is known, or whether it is.
async fn verdict(server: &Server, token: &str) -> Result<Result<(), Inactive>, Reason> {
    let judged = server.authority.judge(token, server.clock.now()).await;
    judged
        .map(|verdict| verdict.map(drop))
        .map_err(|error| error.reason())
}

async fn revoke(server: &Server, session: &str) {
    let admin = server.admin().await.access_token;
    let subject = Subject::SessionId(session.to_owned());
    let revoked = server.revoke_by_reference(&admin, subject, "").await;
    assert!(revoked.unwrap().effect.unwrap().effective());
}

both!(
    a_token_is_not_judged_before_the_log_reaches_it,
    async |server| {
        let (token, rev) = ahead(server, 2).await;
        let unknown = Err(Reason::DatabaseUnavailable);
        assert_eq!(verdict(server, &token).await, unknown);
        revoke(server, "one").await;
        assert_eq!(verdict(server, &token).await, unknown);
        while server.authority.log.catch_up().await.unwrap().position.0 < rev {
            revoke(server, "another").await;
        }
        assert_eq!(verdict(server, &token).await, Ok(Ok(())));
    }
);

both!(
    a_token_that_is_known_to_be_dead_is_inactive_however_far_it_is_ahead,
    async |server| {
        let (token, _) = ahead(server, 1 << 40).await;
        server.revoke(&token).await;
        let dead = Ok(Err(Inactive::Revoked));
        assert_eq!(verdict(server, &token).await, dead);
    }
);

both!(
    the_log_is_not_read_for_every_call_with_a_token_that_is_ahead,
    async |server| {
        let (token, _) = ahead(server, 1 << 40).await;
        let calling = async {
            for _ in 0..CALLS {
                let unknown = Err(Reason::DatabaseUnavailable);
                assert_eq!(verdict(server, &token).await, unknown);
            }
        };
        let (statements, ()) = server.statements_of(calling).await;
        eprintln!("{statements} statements for {CALLS} calls");
        assert!(statements < CALLS / 4, "{statements} statements");
    }
);
