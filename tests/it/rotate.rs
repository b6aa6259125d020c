//! Rotation of a JWT: the session goes on, the old token ends, and a lost answer can be asked for again.

use token_authority::proto::{self, InactiveReason as Why};
use tonic::Code;

use crate::support::{
    PASSWORD, both, claims_of, exchange_request, fields, key, minutes, password_request, refused,
    rotate_request, seconds,
};

const RETRY: &str = "0191e2a0-0000-7000-8000-000000000001";

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn overlapping(token: &str, seconds_long: i64) -> proto::RotateTokenRequest {
    proto::RotateTokenRequest {
        overlap: Some(seconds(seconds_long)),
        ..rotate_request(token)
    }
}

fn retriable(token: &str) -> proto::RotateTokenRequest {
    proto::RotateTokenRequest {
        idempotency_key: RETRY.to_owned(),
        ..rotate_request(token)
    }
}

both!(a_rotated_token_goes_on_with_its_session, async |server| {
    let tenant = server.tenant("acme").await;
    let request = proto::IssueTokenRequest {
        audiences: texts(&["orders", "billing"]),
        ttl: Some(seconds(1_800)),
        ..password_request("alice.acme", PASSWORD, "")
    };
    let old = server.issue(request).await.unwrap();
    server.clock.advance(minutes(10));
    let answer = server
        .rotate(rotate_request(&old.access_token))
        .await
        .unwrap();
    let (new, effect) = (answer.token.unwrap(), answer.effect.unwrap());
    assert_eq!(effect.effective, Some(true));
    assert_eq!(new.session_id, old.session_id);
    assert_ne!(new.token_id, old.token_id);
    assert_eq!((&new.principal, &new.scopes), (&old.principal, &old.scopes));
    let (before, after) = (claims_of(&old.access_token), claims_of(&new.access_token));
    assert_eq!(after["aud"], before["aud"]);
    assert_eq!(after["auth_time"], before["auth_time"]);
    assert_eq!(after["narrowed"], before["narrowed"]);
    let life = |claims: &serde_json::Value| {
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
    };
    assert_eq!((life(&before), life(&after)), (1_800, 1_800));
    assert_eq!(
        server.verdict(&tenant.boss_token, &old.access_token).await,
        Err(Why::Revoked)
    );
    assert_eq!(
        server.verdict(&tenant.boss_token, &new.access_token).await,
        Ok(())
    );
});

both!(the_old_token_is_good_for_the_overlap, async |server| {
    let root = server.admin().await.access_token;
    let old = server.admin().await.access_token;
    let answer = server.rotate(overlapping(&old, 120)).await.unwrap();
    assert_eq!(answer.effect, None);
    let new = answer.token.unwrap().access_token;
    server.clock.advance(
        minutes(2)
            .checked_sub(std::time::Duration::from_micros(1))
            .unwrap(),
    );
    for token in [&old, &new] {
        assert_eq!(server.verdict(&root, token).await, Ok(()));
    }
    refused(
        server.rotated(&old).await,
        Code::Aborted,
        "CONCURRENT_MODIFICATION",
    );
    server.clock.advance(std::time::Duration::from_micros(1));
    assert!(server.verdict(&root, &old).await.is_err());
    assert_eq!(server.verdict(&root, &new).await, Ok(()));
});

both!(an_overlap_is_5_minutes_at_most, async |server| {
    let token = server.admin().await.access_token;
    let odd = prost_types::Duration {
        seconds: 1,
        nanos: -1,
    };
    for overlap in [
        seconds(301),
        seconds(-1),
        seconds(i64::MAX),
        seconds(i64::MIN),
        odd,
    ] {
        let request = proto::RotateTokenRequest {
            overlap: Some(overlap),
            ..rotate_request(&token)
        };
        let status = refused(
            server.rotate(request).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        assert_eq!(fields(&status), ["overlap"]);
    }
    server.rotate(overlapping(&token, 300)).await.unwrap();
});

both!(a_second_rotation_is_aborted, async |server| {
    let old = server.admin().await.access_token;
    let new = server.rotated(&old).await.unwrap().access_token;
    refused(
        server.rotated(&old).await,
        Code::Aborted,
        "CONCURRENT_MODIFICATION",
    );
    // The one that won is not harmed.
    server.rotated(&new).await.unwrap();
});

both!(of_many_rotations_at_once_exactly_one_wins, async |server| {
    let root = server.admin().await.access_token;
    for overlap in [0, 60] {
        let old = server.admin().await.access_token;
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let mut client = server.tokens().await;
            let request = overlapping(&old, overlap);
            attempts.spawn(async move { client.rotate_token(request).await });
        }
        let mut won = Vec::new();
        for answer in attempts.join_all().await {
            match answer {
                Ok(answer) => won.push(answer.into_inner().token.unwrap().access_token),
                // Who comes once the first has been answered finds a token that is dead at once.
                Err(status) if overlap == 0 && status.code() == Code::Unauthenticated => {}
                Err(status) => {
                    refused::<()>(Err(status), Code::Aborted, "CONCURRENT_MODIFICATION");
                }
            }
        }
        assert_eq!(won.len(), 1, "overlap {overlap}");
        assert_eq!(server.verdict(&root, &won[0]).await, Ok(()));
    }
});

both!(only_an_active_jwt_is_rotated, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, api_key) = server.made_key(&tenant.alice_token, key(&[])).await;
    let short = proto::IssueTokenRequest {
        ttl: Some(seconds(60)),
        ..password_request("alice.acme", PASSWORD, "")
    };
    let expired = server.issue(short).await.unwrap().access_token;
    let revoked = server.token_of("alice.acme").await;
    server.revoke(&revoked).await.unwrap();
    server.clock.advance(minutes(1));
    let refusal = server.rotated("").await;
    let refusal = refused(refusal, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(fields(&refusal), ["access_token"]);
    for token in ["garbage", &api_key, &expired, &revoked, &revoked[1..]] {
        refused(
            server.rotated(token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
    }
});

both!(a_lost_answer_is_given_again, async |server| {
    let root = server.admin().await.access_token;
    let old = server.admin().await.access_token;
    let first = server.rotate(retriable(&old)).await.unwrap();
    server.clock.advance(
        minutes(10)
            .checked_sub(std::time::Duration::from_secs(1))
            .unwrap(),
    );
    let again = server.rotate(retriable(&old)).await.unwrap();
    assert_eq!(again.token, first.token, "Ed25519 signs alike");
    let (first_effect, again_effect) = (first.effect.unwrap(), again.effect.unwrap());
    assert_eq!(again_effect.position, first_effect.position);
    assert_eq!(again_effect.effective, Some(true));
    let new = first.token.unwrap().access_token;
    assert_eq!(server.verdict(&root, &new).await, Ok(()));
    // In capitals it is the same UUID.
    let capitals = proto::RotateTokenRequest {
        idempotency_key: RETRY.to_uppercase(),
        ..rotate_request(&old)
    };
    let again = server.rotate(capitals).await.unwrap();
    assert_eq!(again.token.unwrap().access_token, new);

    server.clock.advance(std::time::Duration::from_secs(1));
    refused(
        server.rotate(retriable(&old)).await,
        Code::Aborted,
        "CONCURRENT_MODIFICATION",
    );
});

both!(
    a_retry_with_an_overlap_has_no_effect_to_tell,
    async |server| {
        let old = server.admin().await.access_token;
        let request = proto::RotateTokenRequest {
            overlap: Some(seconds(60)),
            ..retriable(&old)
        };
        let first = server.rotate(request.clone()).await.unwrap();
        let again = server.rotate(request).await.unwrap();
        assert_eq!((again.effect, again.token), (None, first.token));
    }
);

both!(an_idempotency_key_is_for_one_request, async |server| {
    let old = server.admin().await.access_token;
    server.rotate(retriable(&old)).await.unwrap();
    let other = proto::RotateTokenRequest {
        overlap: Some(seconds(60)),
        ..retriable(&old)
    };
    refused(
        server.rotate(other).await,
        Code::InvalidArgument,
        "IDEMPOTENCY_KEY_REUSED",
    );
    // It is bound to the presented token: another token may use the same.
    let another = server.admin().await.access_token;
    server.rotate(retriable(&another)).await.unwrap();
    for malformed in ["x", "0191e2a0", "' OR 1=1--"] {
        let request = proto::RotateTokenRequest {
            idempotency_key: malformed.to_owned(),
            ..rotate_request(&server.admin().await.access_token)
        };
        let status = refused(
            server.rotate(request).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        assert_eq!(fields(&status), ["idempotency_key"]);
    }
});

both!(
    a_retry_is_refused_once_the_session_is_revoked,
    async |server| {
        let old = server.admin().await.access_token;
        let new = server.rotate(retriable(&old)).await.unwrap().token.unwrap();
        server.revoke(&new.access_token).await.unwrap();
        refused(
            server.rotate(retriable(&old)).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        refused(
            server.rotated(&old).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
    }
);

both!(retries_at_once_get_one_token, async |server| {
    let old = server.admin().await.access_token;
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = server.tokens().await;
        let request = retriable(&old);
        attempts.spawn(async move { client.rotate_token(request).await });
    }
    let mut given = Vec::new();
    for answer in attempts.join_all().await {
        match answer {
            Ok(answer) => given.push(answer.into_inner().token.unwrap().access_token),
            Err(status) => {
                refused::<()>(Err(status), Code::Aborted, "CONCURRENT_MODIFICATION");
            }
        }
    }
    given.push(
        server
            .rotate(retriable(&old))
            .await
            .unwrap()
            .token
            .unwrap()
            .access_token,
    );
    given.dedup();
    assert_eq!(given.len(), 1);
});

both!(a_session_cannot_be_carried_on_for_ever, async |server| {
    let tenant = server.tenant("acme").await;
    let three_hours = 3 * 3_600_000_000_i64;
    server
        .sql(&format!(
            "UPDATE spaces SET max_session_age = {three_hours} WHERE slug = 'acme'"
        ))
        .await;
    let first = server.sign_in("alice.acme", PASSWORD, "").await;
    let began = first.issue_time.unwrap().seconds;
    server.clock.advance(minutes(170));
    let second = server.rotated(&first.access_token).await.unwrap();
    assert_eq!(second.expire_time.unwrap().seconds, began + 3 * 3_600);
    assert_eq!(claims_of(&second.access_token)["auth_time"], began);
    let late = server.token_of("alice.acme").await;
    server.clock.advance(minutes(180));
    refused(
        server.rotated(&late).await,
        Code::FailedPrecondition,
        "SESSION_TOO_OLD",
    );
    refused(
        server.rotated(&second.access_token).await,
        Code::Unauthenticated,
        "CREDENTIALS_INVALID",
    );
    assert_eq!(
        server.verdict(&tenant.root_token, &late).await,
        Ok(()),
        "nothing was used up"
    );
});

both!(a_new_token_says_what_the_roles_are_now, async |server| {
    let tenant = server.tenant("acme").await;
    let narrow = proto::IssueTokenRequest {
        scopes: texts(&["orders.read"]),
        ..password_request("alice.acme", PASSWORD, "")
    };
    let narrow = server.issue(narrow).await.unwrap().access_token;
    server.role(&tenant.space, "captain", &["ships.sail"]).await;
    server.assign(&tenant.space, &tenant.alice, "captain").await;
    assert_eq!(
        server
            .verdict(&tenant.boss_token, &tenant.alice_token)
            .await,
        Ok(()),
        "more kills nothing"
    );
    let wide = server.rotated(&tenant.alice_token).await.unwrap();
    assert!(wide.scopes.contains(&"ships.sail".to_owned()));
    assert_eq!(wide.principal.unwrap().roles, ["captain", "clerk"]);
    let narrow = server.rotated(&narrow).await.unwrap();
    assert_eq!(narrow.scopes, ["orders.read"], "narrowed stays narrow");
    assert_eq!(claims_of(&narrow.access_token)["narrowed"], true);

    // Fewer kills every token that names the role, which then cannot be rotated.
    let operator = server.operator().await;
    operator
        .set_permissions(&tenant.space, "captain", &[])
        .await;
    for token in [&wide.access_token, &narrow.access_token] {
        refused(
            server.rotated(token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
    }
});

both!(
    a_key_that_was_narrowed_narrows_what_is_rotated_of_it,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, api_key) = server
            .made_key(&tenant.alice_token, key(&["orders.read", "orders.write"]))
            .await;
        let before = server.exchange(&api_key).await;
        let update = proto::ApiKey {
            api_key_id: id.clone(),
            ..key(&["orders.read"])
        };
        server
            .update_key(&tenant.alice_token, update, &["scopes"])
            .await
            .unwrap();
        refused(
            server.rotated(&before.access_token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        let after = server.exchange(&api_key).await;
        assert_eq!(after.scopes, ["orders.read"]);

        // Widened again, a JWT that was narrowed by its key stays as narrow as it was.
        let update = proto::ApiKey {
            api_key_id: id.clone(),
            ..key(&["orders.read", "orders.write"])
        };
        server
            .update_key(&tenant.alice_token, update, &["scopes"])
            .await
            .unwrap();
        let rotated = server.rotated(&after.access_token).await.unwrap();
        assert_eq!(rotated.scopes, ["orders.read"]);
        assert_eq!(rotated.principal.unwrap().api_key_id, id);

        server.revoke_key(&tenant.alice_token, &id).await.unwrap();
        refused(
            server.rotated(&rotated.access_token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        refused(
            server.issue(exchange_request(&api_key)).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
    }
);

both!(
    a_token_for_other_audiences_is_rotated_all_the_same,
    async |server| {
        let request = proto::IssueTokenRequest {
            audiences: texts(&["orders"]),
            ..password_request("admin", &server.admin_password, "")
        };
        let token = server.issue(request).await.unwrap().access_token;
        refused(
            server.who(&token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        let new = server.rotated(&token).await.unwrap().access_token;
        assert_eq!(claims_of(&new)["aud"], serde_json::json!(["orders"]));
    }
);
