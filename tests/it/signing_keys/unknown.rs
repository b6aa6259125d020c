//! Keys that cannot be known. Their tokens cost one read for all of them, and where that fails nothing is said of them; a row
//! that is spoilt harms nothing but its own key.

use std::time::Duration;

use token_authority::{proto::SigningKeyState as State, storage::ConnectionTrait as _};
use tonic::Code;

use super::kid_of;
use crate::support::{Forger, Server, both, introspect_request, refused};

/// Tokens of one key that the server does not know.
fn strange(good: &str, count: usize) -> Vec<String> {
    let stranger = Forger::with_own_key(good);
    let token = |number: usize| stranger.with_claim("jti", Some(format!("{number:022}").into()));
    (0..count).map(token).collect()
}

async fn rename(server: &Server, from: &str, to: &str) {
    let transaction = server.authority.db.begin().await.unwrap();
    let sql = format!("ALTER TABLE {from} RENAME TO {to}");
    transaction.execute_unprepared(&sql).await.unwrap();
    transaction.commit().await.unwrap();
}

both!(an_unknown_key_costs_one_read_a_second, async |server| {
    let good = server.admin().await.access_token;
    server.verdict(&good, &good).await.unwrap();
    server.clock.advance(Duration::from_secs(2));
    let tokens = strange(&good, 1_000);
    let request = |tokens: &[String]| token_authority::proto::BatchIntrospectTokensRequest {
        tokens: tokens.to_vec(),
        ..Default::default()
    };
    let judging = async {
        for some in tokens.chunks(250) {
            let told = server.judge_all(&good, request(some)).await.unwrap();
            assert!(told.iter().all(|told| told.active == Some(false)));
        }
    };
    let (reads, ()) = server.statements_of(judging).await;
    assert!(reads < 100, "{reads}");
});

both!(
    where_the_keys_cannot_be_read_nothing_is_said,
    async |server| {
        let good = server.admin().await.access_token;
        server.verdict(&good, &good).await.unwrap();
        let tokens = strange(&good, 3);
        server.clock.advance(Duration::from_secs(2));
        rename(server, "signing_keys", "signing_keys_away").await;
        for token in &tokens {
            let answer = server.judge(&good, introspect_request(token)).await;
            refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
            let answer = server.who(token).await;
            refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
        }
        // What is known goes on.
        server.verdict(&good, &good).await.unwrap();
        rename(server, "signing_keys_away", "signing_keys").await;
        server.clock.advance(Duration::from_secs(2));
        for token in &tokens {
            assert!(server.verdict(&good, token).await.is_err());
        }
    }
);

both!(
    a_row_that_is_spoilt_harms_its_own_key_alone,
    async |server| {
        let admin = server.admin().await.access_token;
        let sound = kid_of(&admin);
        for spoilt in [
            "algorithm = 'none'",
            "algorithm = 'ES256'",
            "signing_key_id = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'",
            "state = 'borrowed'",
        ] {
            let id = server.id(&admin, State::Prepared).await;
            assert!(server.jwks().await.contains(&id));
            let sql = format!("UPDATE signing_keys SET {spoilt} WHERE signing_key_id = '{id}'");
            server.sql(&sql).await;
            server.authority.keyring.reload().await.unwrap();
            let jwks = server.jwks().await;
            assert!(jwks.contains(&sound) && !jwks.contains(&id), "{spoilt}");
            let token = server.admin().await.access_token;
            server.verdict(&admin, &token).await.unwrap();
            // Out of the way, and another one in its place.
            server
                .sql("DELETE FROM signing_keys WHERE state IN ('prepared', 'borrowed')")
                .await;
            server.rotate_keys().await;
        }
    }
);
