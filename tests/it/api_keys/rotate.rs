//! New secrets for keys.

use std::time::Duration;

use token_authority::proto::{self, InactiveReason as Why};
use tonic::Code;

use crate::support::{as_caller, both, fields, key, minutes, refused, rotate_key, seconds};

const RETRY: &str = "0191e2a0-0000-7000-8000-000000000001";
const MICRO: Duration = Duration::from_micros(1);

fn retriable(id: &str, overlap: i64) -> proto::RotateApiKeyRequest {
    proto::RotateApiKeyRequest {
        idempotency_key: RETRY.to_owned(),
        ..rotate_key(id, seconds(overlap))
    }
}

both!(a09_the_old_secret_is_good_for_the_overlap, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, old) = server
        .made_key(&tenant.alice_token, key(&["orders.read"]))
        .await;
    let jwt = server.exchange(&old).await.access_token;
    let answer = server
        .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(3_600)))
        .await
        .unwrap();
    assert_eq!(answer.effect, None);
    let (told, new) = (answer.api_key.unwrap(), answer.api_key_token);
    let deadline = told.previous_secret_expire_time.unwrap();
    assert_eq!(deadline.seconds, server.clock.now().seconds() + 3_600);
    assert_eq!(
        old.rsplit_once('_').unwrap().0,
        new.rsplit_once('_').unwrap().0,
        "the id stays"
    );
    for token in [&old, &new, &jwt] {
        assert_eq!(server.verdict(&tenant.boss_token, token).await, Ok(()));
    }
    server.clock.advance(minutes(60).checked_sub(MICRO).unwrap());
    assert_eq!(server.verdict(&tenant.boss_token, &old).await, Ok(()));
    server.clock.advance(MICRO);
    assert_eq!(
        server.verdict(&tenant.boss_token, &old).await,
        Err(Why::Expired)
    );
    for token in [&new, &jwt] {
        assert_eq!(server.verdict(&tenant.boss_token, token).await, Ok(()));
    }
    let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
    assert_eq!(told.previous_secret_expire_time, None);
});

both!(the_overlap_is_a_day_unless_told_otherwise, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
    let request = proto::RotateApiKeyRequest {
        api_key_id: id,
        ..Default::default()
    };
    let told = server
        .rotate_key(&tenant.alice_token, request)
        .await
        .unwrap()
        .api_key
        .unwrap();
    let deadline = told.previous_secret_expire_time.unwrap().seconds;
    assert_eq!(deadline, server.clock.now().seconds() + 86_400);
});

both!(
    without_an_overlap_the_old_secret_and_its_jwts_end_at_once,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, old) = server.made_key(&tenant.alice_token, key(&[])).await;
        let jwt = server.exchange(&old).await.access_token;
        let answer = server
            .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(0)))
            .await
            .unwrap();
        assert_eq!(answer.effect.unwrap().effective, Some(true));
        assert!(server.verdict(&tenant.boss_token, &old).await.is_err());
        assert_eq!(
            server.verdict(&tenant.boss_token, &jwt).await,
            Err(Why::Revoked)
        );
        assert_eq!(
            server
                .verdict(&tenant.boss_token, &answer.api_key_token)
                .await,
            Ok(())
        );
        assert_eq!(answer.api_key.unwrap().previous_secret_expire_time, None);
        server.exchange(&answer.api_key_token).await;
    }
);

both!(a12_an_overlap_is_30_days_at_most, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
    let odd = prost_types::Duration {
        seconds: 60,
        nanos: i32::MIN,
    };
    let month = 30 * 86_400;
    for overlap in [
        seconds(-1),
        seconds(10 * 365 * 86_400),
        seconds(i64::MAX),
        seconds(i64::MIN),
        seconds(month + 1),
        odd,
    ] {
        let answer = server
            .rotate_key(&tenant.alice_token, rotate_key(&id, overlap))
            .await;
        let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["overlap"], "{overlap:?}");
    }
    server
        .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(month)))
        .await
        .unwrap();
    assert_eq!(server.verdict(&tenant.boss_token, &token).await, Ok(()));
});

both!(two_secrets_are_good_at_most, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, first) = server.made_key(&tenant.alice_token, key(&[])).await;
    let second = server
        .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(3_600)))
        .await
        .unwrap();
    assert_eq!(second.effect, None);
    let third = server
        .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(3_600)))
        .await
        .unwrap();
    assert_eq!(
        third.effect.unwrap().effective,
        Some(true),
        "the oldest ended at once"
    );
    assert!(server.verdict(&tenant.boss_token, &first).await.is_err());
    for token in [&second.api_key_token, &third.api_key_token] {
        assert_eq!(server.verdict(&tenant.boss_token, token).await, Ok(()));
    }
    // One whose time was over anyhow does not end at once.
    server.clock.advance(minutes(60));
    let fourth = server
        .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(3_600)))
        .await
        .unwrap();
    assert_eq!(fourth.effect, None);
});

both!(
    a_key_rotates_itself_with_5_minutes_of_overlap_at_least,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, token) = server
            .made_key(&tenant.alice_token, key(&["orders.read"]))
            .await;
        for named in ["", &*id] {
            for overlap in [0, 1, 299] {
                let answer = server
                    .rotate_key(&token, rotate_key(named, seconds(overlap)))
                    .await;
                let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
                assert_eq!(fields(&status), ["overlap"]);
            }
        }
        let answer = server
            .rotate_key(&token, rotate_key("", seconds(300)))
            .await
            .unwrap();
        assert_eq!(answer.api_key.unwrap().api_key_id, id);
        assert_eq!(
            server.who(&answer.api_key_token).await.unwrap().scopes,
            ["orders.read"]
        );
        // The old one still rotates, in case the answer was lost.
        server
            .rotate_key(&token, rotate_key("", seconds(300)))
            .await
            .unwrap();
        refused(
            server.who(&token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        // Who came by no key names none in vain.
        let answer = server
            .rotate_key(&tenant.alice_token, rotate_key("", seconds(300)))
            .await;
        assert_eq!(
            fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")),
            ["api_key_id"]
        );
    }
);

both!(
    a14_a_revoked_or_expired_key_is_not_rotated,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (revoked, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        server
            .revoke_key(&tenant.alice_token, &revoked)
            .await
            .unwrap();
        let end = server.clock.now() + minutes(1);
        let expiring = proto::ApiKey {
            expire_time: Some(prost_types::Timestamp {
                seconds: end.seconds(),
                nanos: 0,
            }),
            ..key(&[])
        };
        let (expired, _) = server.made_key(&tenant.alice_token, expiring).await;
        server.clock.advance(minutes(1));
        for id in [&revoked, &expired] {
            let answer = server
                .rotate_key(&tenant.alice_token, rotate_key(id, seconds(600)))
                .await;
            refused(answer, Code::FailedPrecondition, "API_KEY_NOT_ACTIVE");
        }
    }
);

both!(
    a13_revoking_during_the_overlap_ends_both_secrets,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, old) = server.made_key(&tenant.alice_token, key(&[])).await;
        let new = server
            .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(3_600)))
            .await
            .unwrap()
            .api_key_token;
        server.revoke_key(&tenant.alice_token, &id).await.unwrap();
        for token in [&old, &new] {
            assert_eq!(
                server.verdict(&tenant.boss_token, token).await,
                Err(Why::Revoked)
            );
        }
    }
);

both!(
    of_rotations_at_once_each_is_whole_or_aborted,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let mut client = server.api_keys().await;
            let request = as_caller(&tenant.alice_token, rotate_key(&id, seconds(3_600)));
            attempts.spawn(async move { client.rotate_api_key(request).await });
        }
        let mut made = Vec::new();
        for answer in attempts.join_all().await {
            match answer {
                Ok(answer) => made.push(answer.into_inner().api_key_token),
                Err(status) => {
                    refused::<()>(Err(status), Code::Aborted, "CONCURRENT_MODIFICATION");
                }
            }
        }
        assert!(!made.is_empty());
        let mut good = 0;
        for token in &made {
            good += u32::from(server.verdict(&tenant.boss_token, token).await.is_ok());
        }
        assert!((1..=2).contains(&good), "{good} of {} are good", made.len());
    }
);

both!(
    a_lost_answer_is_given_again_with_the_same_secret,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        for overlap in [0, 3_600] {
            let caller = server.token_of("alice.acme").await;
            let first = server
                .rotate_key(&caller, retriable(&id, overlap))
                .await
                .unwrap();
            server.clock.advance(minutes(10).checked_sub(MICRO).unwrap());
            let again = server
                .rotate_key(&caller, retriable(&id, overlap))
                .await
                .unwrap();
            assert_eq!(again.api_key_token, first.api_key_token);
            assert_eq!(
                again.effect.map(|effect| effect.position),
                first.effect.map(|effect| effect.position)
            );
            assert_eq!(
                server
                    .verdict(&tenant.boss_token, &first.api_key_token)
                    .await,
                Ok(())
            );
            let other = server
                .rotate_key(&caller, retriable(&id, overlap + 600))
                .await;
            refused(other, Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED");
            server.clock.advance(MICRO);
            let late = server
                .rotate_key(&caller, retriable(&id, overlap))
                .await
                .unwrap();
            assert_ne!(
                late.api_key_token, first.api_key_token,
                "later it is a new request"
            );
        }
    }
);

both!(a_retry_after_another_rotation_is_aborted, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
    server
        .rotate_key(&tenant.alice_token, retriable(&id, 600))
        .await
        .unwrap();
    server
        .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(600)))
        .await
        .unwrap();
    let answer = server
        .rotate_key(&tenant.alice_token, retriable(&id, 600))
        .await;
    refused(answer, Code::Aborted, "CONCURRENT_MODIFICATION");
    server.revoke_key(&tenant.alice_token, &id).await.unwrap();
    let answer = server
        .rotate_key(&tenant.alice_token, retriable(&id, 600))
        .await;
    refused(answer, Code::FailedPrecondition, "API_KEY_NOT_ACTIVE");
});

both!(
    a_key_that_lost_the_answer_asks_with_its_old_secret,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (_, old) = server.made_key(&tenant.alice_token, key(&[])).await;
        let first = server.rotate_key(&old, retriable("", 300)).await.unwrap();
        server.clock.advance(minutes(4));
        let again = server.rotate_key(&old, retriable("", 300)).await.unwrap();
        assert_eq!(again.api_key_token, first.api_key_token);
        // The new one is the same caller.
        let again = server
            .rotate_key(&first.api_key_token, retriable("", 300))
            .await
            .unwrap();
        assert_eq!(again.api_key_token, first.api_key_token);
    }
);
