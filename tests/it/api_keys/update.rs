//! Changing keys.

use std::collections::BTreeMap;

use token_authority::proto::{self, InactiveReason as Why};
use tonic::Code;

use crate::support::{both, fields, key, minutes, refused, seconds};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn with_id(id: &str, key: proto::ApiKey) -> proto::ApiKey {
    proto::ApiKey {
        api_key_id: id.to_owned(),
        ..key
    }
}

both!(only_what_the_mask_names_changes, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, _) = server
        .made_key(&tenant.alice_token, key(&["orders.read"]))
        .await;
    let before = server.get_key(&tenant.alice_token, &id).await.unwrap();
    let new = proto::ApiKey {
        api_key_id: id.clone(),
        display_name: "renamed".to_owned(),
        description: "described".to_owned(),
        roles: texts(&["clerk"]),
        scopes: texts(&["billing.read"]),
        audiences: texts(&["orders"]),
        allowed_cidrs: texts(&["127.0.0.0/8"]),
        labels: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
        disabled: true,
        expire_time: Some(prost_types::Timestamp {
            seconds: server.clock.now().seconds() + 3_600,
            nanos: 0,
        }),
        ..Default::default()
    };
    let mut expected = before.clone();
    let steps: [(&str, fn(&mut proto::ApiKey, &proto::ApiKey)); 9] = [
        ("display_name", |key, new| {
            key.display_name.clone_from(&new.display_name);
        }),
        ("description", |key, new| {
            key.description.clone_from(&new.description);
        }),
        ("labels", |key, new| key.labels.clone_from(&new.labels)),
        ("roles", |key, new| key.roles.clone_from(&new.roles)),
        ("scopes", |key, new| key.scopes.clone_from(&new.scopes)),
        ("audiences", |key, new| {
            key.audiences.clone_from(&new.audiences);
        }),
        ("allowed_cidrs", |key, new| {
            key.allowed_cidrs.clone_from(&new.allowed_cidrs);
        }),
        ("expire_time", |key, new| key.expire_time = new.expire_time),
        ("disabled", |key, new| {
            key.disabled = new.disabled;
            key.state = proto::ApiKeyState::Disabled.into();
        }),
    ];
    for (path, change) in steps {
        server.clock.advance(std::time::Duration::from_secs(1));
        let answer = server
            .update_key(&tenant.alice_token, new.clone(), &[path])
            .await
            .unwrap();
        let told = answer.api_key.unwrap();
        change(&mut expected, &new);
        assert_ne!(told.update_time, expected.update_time, "{path}");
        expected.update_time = told.update_time;
        assert_eq!(told, expected, "{path}");
        assert_eq!(
            server.get_key(&tenant.alice_token, &id).await.unwrap(),
            expected
        );
    }
});

both!(a_mask_names_fields_that_can_be_changed, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
    let before = server.get_key(&tenant.alice_token, &id).await.unwrap();
    let masks: [&[&str]; 18] = [
        &[],
        &["*"],
        &["display_name", "*"],
        &["api_key_id"],
        &["space_id"],
        &["user_id"],
        &["state"],
        &["hint"],
        &["create_time"],
        &["update_time"],
        &["last_use_time"],
        &["last_use_address"],
        &["revoke_time"],
        &["previous_secret_expire_time"],
        &["secret"],
        &["displayName"],
        &[""],
        &["labels.team"],
    ];
    for mask in masks {
        let renamed = proto::ApiKey {
            display_name: "renamed".to_owned(),
            ..with_id(&id, key(&[]))
        };
        let answer = server.update_key(&tenant.alice_token, renamed, mask).await;
        let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["update_mask"], "{mask:?}");
    }
    assert_eq!(
        server.get_key(&tenant.alice_token, &id).await.unwrap(),
        before
    );
    let cases: [(&str, proto::ApiKey, &str); 7] = [
        (
            "display_name",
            proto::ApiKey::default(),
            "api_key.display_name",
        ),
        (
            "description",
            proto::ApiKey {
                description: "x".repeat(1_025),
                ..Default::default()
            },
            "api_key.description",
        ),
        (
            "roles",
            proto::ApiKey {
                roles: texts(&["ROOT"]),
                ..Default::default()
            },
            "api_key.roles[0]",
        ),
        (
            "scopes",
            proto::ApiKey {
                scopes: texts(&["a b"]),
                ..Default::default()
            },
            "api_key.scopes[0]",
        ),
        (
            "audiences",
            proto::ApiKey {
                audiences: texts(&[""]),
                ..Default::default()
            },
            "api_key.audiences[0]",
        ),
        (
            "allowed_cidrs",
            proto::ApiKey {
                allowed_cidrs: texts(&["x"]),
                ..Default::default()
            },
            "api_key.allowed_cidrs[0]",
        ),
        (
            "expire_time",
            proto::ApiKey {
                expire_time: Some(prost_types::Timestamp {
                    seconds: 1,
                    nanos: 0,
                }),
                ..Default::default()
            },
            "api_key.expire_time",
        ),
    ];
    for (path, bad, blamed) in cases {
        let answer = server
            .update_key(&tenant.alice_token, with_id(&id, bad), &[path])
            .await;
        let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), [blamed]);
    }
    let nameless = server
        .update_key(&tenant.alice_token, key(&[]), &["display_name"])
        .await;
    assert_eq!(
        fields(&refused(nameless, Code::InvalidArgument, "FIELD_INVALID")),
        ["api_key.api_key_id"]
    );
});

/// What is taken away from a key that names everything there is to name.
fn narrowing(now: i64) -> Vec<(&'static str, proto::ApiKey)> {
    let end = |seconds| {
        Some(prost_types::Timestamp {
            seconds: now + seconds,
            nanos: 0,
        })
    };
    vec![
        ("scopes", key(&["orders.read"])),
        (
            "roles",
            proto::ApiKey {
                roles: texts(&["clerk"]),
                ..Default::default()
            },
        ),
        (
            "audiences",
            proto::ApiKey {
                audiences: texts(&["orders"]),
                ..Default::default()
            },
        ),
        (
            "expire_time",
            proto::ApiKey {
                expire_time: end(86_400),
                ..Default::default()
            },
        ),
        (
            "disabled",
            proto::ApiKey {
                disabled: true,
                ..Default::default()
            },
        ),
        (
            "allowed_cidrs",
            proto::ApiKey {
                allowed_cidrs: texts(&["10.0.0.0/8"]),
                ..Default::default()
            },
        ),
    ]
}

both!(
    what_takes_something_away_kills_the_keys_jwts,
    async |server| {
        let tenant = server.tenant("acme").await;
        server.role(&tenant.space, "captain", &["ships.sail"]).await;
        server.assign(&tenant.space, &tenant.alice, "captain").await;
        let alice = server.token_of("alice.acme").await;
        for (path, less) in narrowing(server.clock.now().seconds()) {
            let (id, token) = server.made_key(&alice, key(&[])).await;
            let jwt = server.exchange(&token).await.access_token;
            let answer = server
                .update_key(&alice, with_id(&id, less), &[path])
                .await
                .unwrap();
            assert_eq!(answer.effect.unwrap().effective, Some(true), "{path}");
            assert_eq!(
                server.verdict(&tenant.boss_token, &jwt).await,
                Err(Why::Revoked),
                "{path}"
            );
        }
        assert_eq!(server.verdict(&tenant.boss_token, &alice).await, Ok(()));
    }
);

both!(what_takes_nothing_away_kills_nothing, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server
        .made_key(&tenant.alice_token, key(&["orders.read"]))
        .await;
    let jwt = server.exchange(&token).await.access_token;
    let later = server.clock.now().seconds() + 200 * 86_400;
    let more = proto::ApiKey {
        display_name: "renamed".to_owned(),
        expire_time: Some(prost_types::Timestamp {
            seconds: later,
            nanos: 0,
        }),
        ..with_id(&id, key(&["orders.read", "orders.write"]))
    };
    let paths = [
        "display_name",
        "description",
        "labels",
        "scopes",
        "expire_time",
        "disabled",
        "roles",
    ];
    for path in paths {
        let answer = server
            .update_key(&tenant.alice_token, more.clone(), &[path])
            .await
            .unwrap();
        assert_eq!(answer.effect, None, "{path}");
        assert_eq!(
            server.verdict(&tenant.boss_token, &jwt).await,
            Ok(()),
            "{path}"
        );
    }
    let told = server.introspect(&tenant.boss_token, &token).await;
    assert_eq!(
        told.scopes,
        ["orders.read", "orders.write"],
        "the key itself may do more at once"
    );
});

both!(a_key_that_is_narrowed_may_do_less_at_once, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server
        .made_key(&tenant.alice_token, key(&["orders.read", "orders.write"]))
        .await;
    assert_eq!(
        server
            .introspect(&tenant.boss_token, &token)
            .await
            .scopes
            .len(),
        2
    );
    let less = with_id(&id, key(&["orders.read"]));
    server
        .update_key(&tenant.alice_token, less, &["scopes"])
        .await
        .unwrap();
    assert_eq!(
        server.introspect(&tenant.boss_token, &token).await.scopes,
        ["orders.read"]
    );
    let off = proto::ApiKey {
        disabled: true,
        ..with_id(&id, key(&[]))
    };
    server
        .update_key(&tenant.alice_token, off, &["disabled"])
        .await
        .unwrap();
    assert_eq!(
        server.verdict(&tenant.boss_token, &token).await,
        Err(Why::Disabled)
    );
    let on = with_id(&id, key(&[]));
    server
        .update_key(&tenant.alice_token, on, &["disabled"])
        .await
        .unwrap();
    assert_eq!(server.verdict(&tenant.boss_token, &token).await, Ok(()));
});

both!(
    an_expiry_can_be_moved_but_not_into_the_past,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
        let ends = |seconds| proto::ApiKey {
            expire_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..with_id(&id, key(&[]))
        };
        let now = server.clock.now().seconds();
        let past = server
            .update_key(&tenant.alice_token, ends(now - 1), &["expire_time"])
            .await;
        refused(past, Code::InvalidArgument, "FIELD_INVALID");
        server
            .update_key(&tenant.alice_token, ends(now + 61), &["expire_time"])
            .await
            .unwrap();
        server.clock.advance(minutes(2));
        assert_eq!(
            server.verdict(&tenant.boss_token, &token).await,
            Err(Why::Expired)
        );
        // One that has expired can be carried on.
        server
            .update_key(&tenant.alice_token, ends(now + 600), &["expire_time"])
            .await
            .unwrap();
        assert_eq!(server.verdict(&tenant.boss_token, &token).await, Ok(()));
        server
            .update_key(
                &tenant.alice_token,
                with_id(&id, key(&[])),
                &["expire_time"],
            )
            .await
            .unwrap();
        server.clock.advance(minutes(60));
        assert_eq!(
            server.verdict(&tenant.boss_token, &token).await,
            Ok(()),
            "without an expiry it never expires"
        );
    }
);

both!(a_revoked_key_is_not_changed, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
    server.revoke_key(&tenant.alice_token, &id).await.unwrap();
    let on = with_id(&id, key(&[]));
    let answer = server
        .update_key(&tenant.alice_token, on.clone(), &["disabled"])
        .await;
    refused(answer, Code::FailedPrecondition, "API_KEY_NOT_ACTIVE");
    let answer = server
        .update_key(&tenant.alice_token, on, &["display_name"])
        .await;
    refused(answer, Code::FailedPrecondition, "API_KEY_NOT_ACTIVE");
});

both!(revoking_twice_is_revoking_once, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
    let jwt = server.exchange(&token).await.access_token;
    let first = server.revoke_key(&tenant.alice_token, &id).await.unwrap();
    assert_eq!(
        server.verdict(&tenant.boss_token, &token).await,
        Err(Why::Revoked)
    );
    assert_eq!(
        server.verdict(&tenant.boss_token, &jwt).await,
        Err(Why::Revoked)
    );
    server.clock.advance(minutes(1));
    let again = server.revoke_key(&tenant.boss_token, &id).await.unwrap();
    assert_eq!(again.api_key, first.api_key, "not even its times change");
    let (first, again) = (first.effect.unwrap(), again.effect.unwrap());
    assert_eq!(
        (again.position, again.effective),
        (first.position, Some(true))
    );
    assert_eq!(
        server.revoke(&token).await.unwrap().position,
        first.position
    );
    for wait in [seconds(31), seconds(-1)] {
        let request = proto::RevokeApiKeyRequest {
            api_key_id: id.clone(),
            wait: Some(wait),
            ..Default::default()
        };
        let request = crate::support::as_caller(&tenant.alice_token, request);
        let answer = server.api_keys().await.revoke_api_key(request).await;
        assert_eq!(
            fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")),
            ["wait"]
        );
    }
});
