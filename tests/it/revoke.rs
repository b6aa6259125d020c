//! `RevokeToken`: whoever holds a token may end it.

use token_authority::proto::{self, InactiveReason as Why};
use tonic::Code;

use crate::support::{
    PASSWORD, both, fields, key, minutes, password_request, refused, rotate_request, seconds,
};

both!(a_revoked_jwt_ends_its_whole_session, async |server| {
    let root = server.admin().await.access_token;
    let first = server.admin().await;
    let overlapping = proto::RotateTokenRequest {
        overlap: Some(seconds(300)),
        ..rotate_request(&first.access_token)
    };
    let second = server
        .rotate(overlapping.clone())
        .await
        .unwrap()
        .token
        .unwrap();
    let overlapping = proto::RotateTokenRequest {
        access_token: second.access_token.clone(),
        ..overlapping
    };
    let third = server.rotate(overlapping).await.unwrap().token.unwrap();
    let stranger = server.admin().await;
    // Presented is the oldest one, which was rotated since.
    let effect = server.revoke(&first.access_token).await.unwrap();
    assert_eq!(effect.effective, Some(true));
    assert_eq!((effect.replicas_applied, effect.replicas_total), (1, 1));
    assert!(effect.commit_time.is_some());
    for token in [&first, &second, &third] {
        assert_eq!(
            server.verdict(&root, &token.access_token).await,
            Err(Why::Revoked)
        );
    }
    assert_eq!(server.verdict(&root, &stranger.access_token).await, Ok(()));
});

both!(
    a_jwt_that_is_dead_by_rotation_still_ends_its_session,
    async |server| {
        let root = server.admin().await.access_token;
        let old = server.admin().await.access_token;
        let new = server.rotated(&old).await.unwrap().access_token;
        assert!(server.verdict(&root, &old).await.is_err());
        server.revoke(&old).await.unwrap();
        assert_eq!(server.verdict(&root, &new).await, Err(Why::Revoked));
    }
);

both!(a_retry_waits_and_tells_the_same_place, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, api_key) = server.made_key(&tenant.alice_token, key(&[])).await;
    for token in [&tenant.alice_token, &api_key] {
        let first = server.revoke(token).await.unwrap();
        server
            .revoke(&server.token_of("boss.acme").await)
            .await
            .unwrap();
        server.clock.advance(minutes(1));
        let again = server.revoke(token).await.unwrap();
        assert_eq!(
            (again.position, &again.cursor),
            (first.position, &first.cursor)
        );
        assert_eq!(again.commit_time, first.commit_time);
        assert_eq!(again.effective, Some(true));
    }
});

both!(
    revocations_of_one_session_at_once_make_one_end,
    async |server| {
        let root = server.admin().await.access_token;
        let victim = server.admin().await.access_token;
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut client = server.tokens().await;
            let request = proto::RevokeTokenRequest {
                token: victim.clone(),
                wait: None,
            };
            attempts.spawn(async move { client.revoke_token(request).await });
        }
        for answer in attempts.join_all().await {
            let effect = answer.unwrap().into_inner().effect.unwrap();
            assert_eq!(effect.effective, Some(true));
        }
        assert_eq!(server.verdict(&root, &victim).await, Err(Why::Revoked));
    }
);

both!(
    what_is_unknown_or_over_is_a_success_without_an_effect,
    async |server| {
        let tenant = server.tenant("acme").await;
        let short = proto::IssueTokenRequest {
            ttl: Some(seconds(60)),
            ..password_request("alice.acme", PASSWORD, "")
        };
        let expired = server.issue(short).await.unwrap().access_token;
        let end = server.clock.now() + minutes(1);
        let expiring = proto::ApiKey {
            expire_time: Some(prost_types::Timestamp {
                seconds: end.seconds(),
                nanos: 0,
            }),
            ..key(&[])
        };
        let (_, expired_key) = server.made_key(&tenant.alice_token, expiring).await;
        server.clock.advance(minutes(1));
        let head = server.authority.log.head().await.unwrap();
        let unknown = "ta_0000000000000000_00000000000000000000000000000000";
        let nothing = proto::RevokeTokenRequest::default();
        let refusal = server.tokens().await.revoke_token(nothing).await;
        let refusal = refused(refusal, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&refusal), ["token"]);
        for token in [
            "garbage",
            unknown,
            &expired,
            &expired_key,
            &tenant.alice_token[1..],
            "a.b.c",
        ] {
            assert_eq!(server.revoke(token).await, None, "{token:?}");
        }
        assert_eq!(
            server.authority.log.head().await.unwrap(),
            head,
            "nothing was written"
        );
    }
);

both!(
    a_wait_is_30_seconds_at_most_and_may_be_none,
    async |server| {
        for wait in [seconds(31), seconds(-1), seconds(i64::MAX)] {
            let token = server.admin().await.access_token;
            let request = proto::RevokeTokenRequest {
                token,
                wait: Some(wait),
            };
            let answer = server.tokens().await.revoke_token(request).await;
            let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["wait"]);
        }
        let root = server.admin().await.access_token;
        for wait in [seconds(0), seconds(30)] {
            let token = server.admin().await.access_token;
            let request = proto::RevokeTokenRequest {
                token: token.clone(),
                wait: Some(wait),
            };
            let effect = server
                .tokens()
                .await
                .revoke_token(request)
                .await
                .unwrap()
                .into_inner()
                .effect
                .unwrap();
            assert!(
                effect.position > 0 && !effect.cursor.is_empty(),
                "sequencing is waited for even so"
            );
            // What has its place can be waited for by whoever asks next.
            let ask = proto::IntrospectTokenRequest {
                min_cursor: effect.cursor,
                ..crate::support::introspect_request(&token)
            };
            assert_eq!(server.judge(&root, ask).await.unwrap().active, Some(false));
        }
    }
);

both!(
    a_revoked_api_key_ends_with_its_secrets_and_its_jwts,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, old) = server.made_key(&tenant.alice_token, key(&[])).await;
        let jwt = server.exchange(&old).await.access_token;
        let new = server
            .rotate_key(
                &tenant.alice_token,
                crate::support::rotate_key(&id, seconds(3_600)),
            )
            .await
            .unwrap()
            .api_key_token;
        let (_, other) = server.made_key(&tenant.alice_token, key(&[])).await;
        // The secret before the rotation is still good, and so is the right to end the key with it.
        let effect = server.revoke(&old).await.unwrap();
        assert_eq!(effect.effective, Some(true));
        for token in [&old, &new, &jwt] {
            assert_eq!(
                server.verdict(&tenant.boss_token, token).await,
                Err(Why::Revoked)
            );
        }
        assert_eq!(server.verdict(&tenant.boss_token, &other).await, Ok(()));
        let key = server.get_key(&tenant.alice_token, &id).await.unwrap();
        assert_eq!(key.state(), proto::ApiKeyState::Revoked);
    }
);

both!(
    a_key_that_is_switched_off_can_still_be_ended,
    async |server| {
        let tenant = server.tenant("acme").await;
        let off = proto::ApiKey {
            disabled: true,
            ..key(&[])
        };
        let (_, off) = server.made_key(&tenant.alice_token, off).await;
        assert!(server.revoke(&off).await.is_some());
        assert_eq!(
            server.verdict(&tenant.boss_token, &off).await,
            Err(Why::Revoked)
        );
    }
);

both!(a_key_id_or_a_secret_alone_ends_nothing, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
    let (hint, secret) = token.rsplit_once('_').unwrap();
    let wrong = format!("{hint}_{}", "0".repeat(32));
    for part in [&*id, hint, secret, &wrong] {
        assert_eq!(server.revoke(part).await, None, "{part}");
    }
    assert_eq!(server.verdict(&tenant.boss_token, &token).await, Ok(()));
});
