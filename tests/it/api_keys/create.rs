//! Making keys.

use std::collections::BTreeMap;

use token_authority::proto;
use tonic::Code;

use crate::support::{both, create_key, fields, key, minutes, refused};

const RETRY: &str = "0191e2a0-0000-7000-8000-000000000001";

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn at(time: token_authority::clock::Timestamp) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: time.seconds(),
        nanos: 0,
    })
}

both!(the_answer_tells_what_a_key_really_has, async |server| {
    let tenant = server.tenant("acme").await;
    let asked = proto::ApiKey {
        roles: texts(&["clerk"]),
        ..key(&["orders.read", "authority.self"])
    };
    let made = server.create_key(&tenant.alice_token, create_key(asked));
    let made = made.await.unwrap();
    assert_eq!(made.granted_scopes, ["authority.self", "orders.read"]);

    // An admin may name what no role grants yet. The key has it once one does.
    let admin = server.admin().await.access_token;
    let asked = create_key(key(&["ships.sail", "authority.self"]));
    let made = server.create_key(&admin, asked).await.unwrap();
    assert_eq!(made.granted_scopes, ["authority.self"]);
    let named = made.api_key.unwrap();
    assert_eq!(named.scopes, ["authority.self", "ships.sail"]);
    let wider = proto::ApiKey {
        scopes: texts(&["ships.sail", "authority.tokens.introspect"]),
        ..named
    };
    let changed = server.update_key(&admin, wider, &["scopes"]).await.unwrap();
    assert_eq!(changed.granted_scopes, ["authority.tokens.introspect"]);
});

both!(a_key_is_as_it_was_asked_for, async |server| {
    let tenant = server.tenant("acme").await;
    let now = server.clock.now();
    let asked = proto::ApiKey {
        display_name: "billing export".to_owned(),
        description: "runs\nat night".to_owned(),
        roles: texts(&["clerk"]),
        scopes: texts(&["orders.read", "authority.self"]),
        audiences: texts(&["orders"]),
        allowed_cidrs: texts(&["10.1.2.3/8", "2001:db8::1/64"]),
        labels: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
        disabled: true,
        expire_time: at(now + minutes(600)),
        // Output-only fields are ignored.
        api_key_id: "XkQBXKr652MV1VF9".to_owned(),
        hint: "ta_mine".to_owned(),
        state: proto::ApiKeyState::Revoked.into(),
        revoke_time: at(now),
        last_use_address: "192.0.2.1".to_owned(),
        ..Default::default()
    };
    let made = server
        .create_key(&tenant.alice_token, create_key(asked.clone()))
        .await
        .unwrap();
    let told = made.api_key.unwrap();
    let (id, created) = (told.api_key_id.clone(), told.create_time);
    assert_eq!(created, told.update_time);
    let expected = proto::ApiKey {
        hint: format!("ta_{id}"),
        api_key_id: id.clone(),
        space_id: tenant.space.to_string(),
        user_id: tenant.alice.to_string(),
        scopes: texts(&["authority.self", "orders.read"]),
        allowed_cidrs: texts(&["10.0.0.0/8", "2001:db8::/64"]),
        state: proto::ApiKeyState::Disabled.into(),
        revoke_time: None,
        last_use_address: String::new(),
        create_time: created,
        update_time: created,
        ..asked
    };
    assert_eq!(told, expected);
    assert_eq!(
        server.get_key(&tenant.alice_token, &id).await.unwrap(),
        expected
    );
    let (hint, secret) = made.api_key_token.rsplit_once('_').unwrap();
    assert_eq!((hint, secret.len()), (&*expected.hint, 32));
});

both!(a_key_lives_90_days_unless_told_otherwise, async |server| {
    let tenant = server.tenant("acme").await;
    let made = server
        .create_key(&tenant.alice_token, create_key(key(&[])))
        .await
        .unwrap();
    let told = made.api_key.unwrap();
    let life = told.expire_time.unwrap().seconds - told.create_time.unwrap().seconds;
    assert_eq!(life, 90 * 86_400);

    let eternal = proto::CreateApiKeyRequest {
        no_expiry: true,
        ..create_key(key(&[]))
    };
    let made = server
        .create_key(&tenant.alice_token, eternal)
        .await
        .unwrap();
    assert_eq!(made.api_key.unwrap().expire_time, None);
    let told = server
        .introspect(&tenant.boss_token, &made.api_key_token)
        .await;
    assert_eq!((told.active, told.expire_time), (Some(true), None));

    let ten_days = 10 * 86_400_000_000_i64;
    server
        .sql(&format!(
            "UPDATE spaces SET max_api_key_ttl = {ten_days} WHERE slug = 'acme'"
        ))
        .await;
    let made = server
        .create_key(&tenant.alice_token, create_key(key(&[])))
        .await
        .unwrap();
    let told = made.api_key.unwrap();
    let life = told.expire_time.unwrap().seconds - told.create_time.unwrap().seconds;
    assert_eq!(life, 10 * 86_400);
    let eternal = proto::CreateApiKeyRequest {
        no_expiry: true,
        ..create_key(key(&[]))
    };
    let longer = create_key(proto::ApiKey {
        expire_time: at(server.clock.now() + minutes(11 * 24 * 60)),
        ..key(&[])
    });
    for request in [eternal, longer] {
        let status = refused(
            server.create_key(&tenant.alice_token, request).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        assert_eq!(fields(&status), ["api_key.expire_time"]);
    }
});

/// Changes one thing about a good key.
type Change = fn(&mut proto::ApiKey);

/// What cannot be taken, and the field that is blamed for it.
fn malformed() -> Vec<(&'static str, Change)> {
    vec![
        ("api_key.display_name", |key| key.display_name.clear()),
        ("api_key.display_name", |key| {
            key.display_name = " \t ".to_owned();
        }),
        ("api_key.display_name", |key| {
            key.display_name = "é".repeat(64);
        }),
        ("api_key.display_name", |key| {
            key.display_name = "a\0b".to_owned();
        }),
        ("api_key.description", |key| {
            key.description = "x".repeat(1_025);
        }),
        ("api_key.description", |key| {
            key.description = "\u{1b}[31m".to_owned();
        }),
        ("api_key.roles[0]", |key| {
            key.roles = vec!["Root".to_owned()];
        }),
        ("api_key.roles[1]", |key| {
            key.roles = vec!["clerk".to_owned(), "clerk ".to_owned()];
        }),
        ("api_key.roles", |key| {
            key.roles = vec!["clerk".to_owned(); 65];
        }),
        ("api_key.scopes[0]", |key| key.scopes = vec!["*".to_owned()]),
        ("api_key.scopes[0]", |key| {
            key.scopes = vec!["authority.all".to_owned()];
        }),
        ("api_key.scopes[1]", |key| {
            key.scopes = vec!["orders.read".to_owned(), "o".repeat(129)];
        }),
        ("api_key.scopes", |key| {
            key.scopes = vec!["orders.read".to_owned(); 257];
        }),
        ("api_key.audiences[0]", |key| {
            key.audiences = vec!["a b".to_owned()];
        }),
        ("api_key.audiences", |key| {
            key.audiences = vec!["a".to_owned(); 17];
        }),
        ("api_key.allowed_cidrs[0]", |key| {
            key.allowed_cidrs = vec!["10.0.0.0/33".to_owned()];
        }),
        ("api_key.allowed_cidrs[0]", |key| {
            key.allowed_cidrs = vec!["localhost".to_owned()];
        }),
        ("api_key.allowed_cidrs[0]", |key| {
            key.allowed_cidrs = vec![String::new()];
        }),
        ("api_key.allowed_cidrs", |key| {
            key.allowed_cidrs = vec!["10.0.0.0/8".to_owned(); 65];
        }),
        ("api_key.labels", |key| {
            key.labels = (0..33).map(|n| (n.to_string(), String::new())).collect();
        }),
        ("api_key.labels", |key| {
            key.labels = BTreeMap::from([(String::new(), "x".to_owned())]);
        }),
        ("api_key.labels", |key| {
            key.labels = BTreeMap::from([("k".repeat(64), "x".to_owned())]);
        }),
        ("api_key.labels", |key| {
            key.labels = BTreeMap::from([("k".to_owned(), "x".repeat(256))]);
        }),
        ("api_key.expire_time", |key| {
            key.expire_time = Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 0,
            });
        }),
        ("api_key.expire_time", |key| {
            key.expire_time = Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            });
        }),
        ("api_key.expire_time", |key| {
            key.expire_time = Some(prost_types::Timestamp {
                seconds: -1,
                nanos: 0,
            });
        }),
        ("api_key.expire_time", |key| {
            key.expire_time = Some(prost_types::Timestamp {
                seconds: 9_999_999_999,
                nanos: -1,
            });
        }),
    ]
}

both!(
    each_field_is_checked_and_blamed_by_its_path,
    async |server| {
        let tenant = server.tenant("acme").await;
        for (index, (blamed, change)) in malformed().into_iter().enumerate() {
            let mut asked = key(&[]);
            change(&mut asked);
            let answer = server
                .create_key(&tenant.alice_token, create_key(asked))
                .await;
            let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), [blamed], "case {index}");
        }
        let answer = server
            .create_key(&tenant.alice_token, proto::CreateApiKeyRequest::default())
            .await;
        assert_eq!(
            fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")),
            ["api_key"]
        );
        let both = proto::CreateApiKeyRequest {
            no_expiry: true,
            ..create_key(proto::ApiKey {
                expire_time: at(server.clock.now() + minutes(60)),
                ..key(&[])
            })
        };
        let answer = server.create_key(&tenant.alice_token, both).await;
        assert_eq!(
            fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")),
            ["no_expiry"]
        );
        let listed = server
            .list_keys(&tenant.alice_token, proto::ListApiKeysRequest::default())
            .await
            .unwrap();
        assert_eq!(listed.api_keys, [], "nothing was made");
    }
);

both!(what_is_just_within_bounds_is_taken, async |server| {
    let tenant = server.tenant("acme").await;
    let widest = proto::ApiKey {
        display_name: "é".repeat(63),
        description: "x".repeat(1_024),
        labels: (0..32)
            .map(|n| (format!("{n:063}"), "x".repeat(255)))
            .collect(),
        allowed_cidrs: (0..64).map(|n| format!("10.{n}.0.0/16")).collect(),
        audiences: (0..16).map(|n| format!("{n:0255}")).collect(),
        scopes: vec!["orders.read".to_owned(); 256],
        ..Default::default()
    };
    let made = server
        .create_key(&tenant.alice_token, create_key(widest.clone()))
        .await
        .unwrap();
    let told = made.api_key.unwrap();
    assert_eq!(
        (told.display_name, told.labels),
        (widest.display_name, widest.labels)
    );
    assert_eq!(told.scopes, ["orders.read"]);
    assert_eq!(told.audiences.len(), 16);
});

both!(
    a_lost_answer_is_given_again_with_the_same_secret,
    async |server| {
        let tenant = server.tenant("acme").await;
        let request = proto::CreateApiKeyRequest {
            idempotency_key: RETRY.to_owned(),
            ..create_key(key(&["orders.read"]))
        };
        let first = server
            .create_key(&tenant.alice_token, request.clone())
            .await
            .unwrap();
        server.clock.advance(
            minutes(10)
                .checked_sub(std::time::Duration::from_secs(1))
                .unwrap(),
        );
        // Rotation of the caller's token keeps its session, and with it the right to the answer.
        let caller = server
            .rotated(&tenant.alice_token)
            .await
            .unwrap()
            .access_token;
        let again = server.create_key(&caller, request.clone()).await.unwrap();
        assert_eq!(again, first);
        let spelled = proto::CreateApiKeyRequest {
            idempotency_key: format!("{{{}}}", RETRY.to_uppercase()),
            ..request.clone()
        };
        let again = server.create_key(&caller, spelled).await.unwrap();
        assert_eq!(again, first);

        let other = proto::CreateApiKeyRequest {
            idempotency_key: RETRY.to_owned(),
            ..create_key(key(&["orders.write"]))
        };
        refused(
            server.create_key(&caller, other).await,
            Code::InvalidArgument,
            "IDEMPOTENCY_KEY_REUSED",
        );
        // Another session is another caller.
        let stranger = server.token_of("alice.acme").await;
        let made = server.create_key(&stranger, request.clone()).await.unwrap();
        assert_ne!(made.api_key_token, first.api_key_token);

        server.clock.advance(std::time::Duration::from_secs(1));
        let late = server.create_key(&caller, request).await.unwrap();
        assert_ne!(
            late.api_key_token, first.api_key_token,
            "later it is a new request"
        );
    }
);

both!(retries_at_once_make_one_key, async |server| {
    let tenant = server.tenant("acme").await;
    let request = proto::CreateApiKeyRequest {
        idempotency_key: RETRY.to_owned(),
        ..create_key(key(&[]))
    };
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = server.api_keys().await;
        let request = crate::support::as_caller(&tenant.alice_token, request.clone());
        attempts.spawn(async move { client.create_api_key(request).await });
    }
    for answer in attempts.join_all().await {
        if let Err(status) = answer {
            refused::<()>(Err(status), Code::Aborted, "CONCURRENT_MODIFICATION");
        }
    }
    let listed = server
        .list_keys(&tenant.alice_token, proto::ListApiKeysRequest::default())
        .await
        .unwrap();
    assert_eq!(listed.api_keys.len(), 1);
});

both!(the_prefix_is_the_spaces, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, before) = server.made_key(&tenant.alice_token, key(&[])).await;
    server
        .sql("UPDATE spaces SET key_prefix = 'acmelive' WHERE slug = 'acme'")
        .await;
    let made = server
        .create_key(&tenant.alice_token, create_key(key(&[])))
        .await
        .unwrap();
    let told = made.api_key.unwrap();
    assert_eq!(told.hint, format!("acmelive_{}", told.api_key_id));
    assert!(made.api_key_token.starts_with(&told.hint));
    for token in [&before, &made.api_key_token] {
        assert_eq!(server.verdict(&tenant.boss_token, token).await, Ok(()));
    }
});
