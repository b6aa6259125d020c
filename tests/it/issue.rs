//! Issuing JWTs for a password and for an API key.

use std::time::Duration;

use token_authority::proto;
use tonic::Code;

use crate::support::{
    CLERK, PASSWORD, Server, Tenant, both, claims_of, exchange_request, fields, key, metadata_of,
    minutes, password_request, refused, seconds,
};

const DAY: i64 = 86_400;

/// A sign-in of alice.
fn alice(tenant: &Tenant) -> proto::IssueTokenRequest {
    password_request(&tenant.name("alice"), PASSWORD, "")
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn life(token: &proto::IssuedToken) -> i64 {
    token.expire_time.unwrap().seconds - token.issue_time.unwrap().seconds
}

both!(a_token_says_what_its_answer_says, async |server| {
    let tenant = server.tenant("acme").await;
    let token = server.issue(alice(&tenant)).await.unwrap();
    let claims = claims_of(&token.access_token);
    let principal = token.principal.clone().unwrap();
    assert_eq!(claims["sub"], principal.user_id);
    assert_eq!(principal.user_id, tenant.alice.as_str());
    assert_eq!(claims["space"], principal.space_id);
    assert_eq!(claims["space_slug"], "acme");
    assert_eq!(claims["username"], "alice.acme");
    assert_eq!(claims["roles"], serde_json::json!(["clerk"]));
    assert_eq!(claims["jti"], token.token_id);
    assert_eq!(claims["sid"], token.session_id);
    assert_eq!(claims["client_id"], "password");
    assert_eq!(claims["narrowed"], false);
    assert_eq!(claims["scope"], token.scopes.join(" "));
    assert_eq!(
        claims["aud"],
        serde_json::json!([&*server.authority.issuer])
    );
    assert_eq!(claims["auth_time"], claims["iat"]);
    assert_eq!(claims["exp"], token.expire_time.unwrap().seconds);
    let mut granted = texts(&CLERK);
    granted.insert(0, "authority.self".to_owned());
    assert_eq!(token.scopes, granted);
    assert_eq!((life(&token), &*token.token_type), (DAY, "Bearer"));
});

both!(scopes_narrow_a_token_and_never_widen_it, async |server| {
    let tenant = server.tenant("acme").await;
    let narrow = proto::IssueTokenRequest {
        scopes: texts(&["orders.write", "orders.read", "orders.read"]),
        ..alice(&tenant)
    };
    let token = server.issue(narrow).await.unwrap();
    assert_eq!(token.scopes, ["orders.read", "orders.write"]);
    assert_eq!(claims_of(&token.access_token)["narrowed"], true);

    for excess in ["orders.delete", "authority.api_keys.write", "orders"] {
        let greedy = proto::IssueTokenRequest {
            scopes: texts(&["orders.read", excess]),
            ..alice(&tenant)
        };
        let status = refused(
            server.issue(greedy).await,
            Code::PermissionDenied,
            "EXCEEDS_GRANT",
        );
        assert_eq!(metadata_of(&status, "scopes"), excess);
    }
    for malformed in [
        "Orders.Read",
        "",
        "orders read",
        "*",
        "authority.everything",
    ] {
        let garbled = proto::IssueTokenRequest {
            scopes: texts(&["orders.read", malformed]),
            ..alice(&tenant)
        };
        let status = refused(
            server.issue(garbled).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        assert_eq!(fields(&status), ["scopes[1]"], "{malformed:?}");
    }
});

both!(audiences_are_as_asked_for, async |server| {
    let tenant = server.tenant("acme").await;
    let asked = texts(&["https://orders.example", "billing"]);
    let request = proto::IssueTokenRequest {
        audiences: asked.clone(),
        ..alice(&tenant)
    };
    let token = server.issue(request).await.unwrap();
    let told = server
        .introspect(&tenant.root_token, &token.access_token)
        .await;
    assert_eq!(told.audiences, asked);

    let sixteen: Vec<String> = (0..16).map(|n| format!("service-{n}")).collect();
    let seventeen: Vec<String> = (0..17).map(|n| format!("service-{n}")).collect();
    let cases = [
        (sixteen, None),
        (seventeen, Some("audiences")),
        (texts(&[""]), Some("audiences[0]")),
        (texts(&["a", "b c"]), Some("audiences[1]")),
        (texts(&["a\n"]), Some("audiences[0]")),
        (vec!["a".repeat(256)], Some("audiences[0]")),
    ];
    for (audiences, blamed) in cases {
        let request = proto::IssueTokenRequest {
            audiences,
            ..alice(&tenant)
        };
        let answer = server.issue(request).await;
        match blamed {
            None => drop(answer.unwrap()),
            Some(field) => {
                let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
                assert_eq!(fields(&status), [field]);
            }
        }
    }
});

both!(
    a_lifetime_is_a_minute_at_least_and_the_maximum_at_most,
    async |server| {
        let tenant = server.tenant("acme").await;
        let cases = [
            (seconds(60), Some(60)),
            (seconds(3_601), Some(3_601)),
            (seconds(DAY), Some(DAY)),
            (seconds(59), None),
            (seconds(0), None),
            (seconds(-60), None),
            (seconds(DAY + 1), None),
            (seconds(i64::MAX), None),
            (seconds(i64::MIN), None),
            (
                prost_types::Duration {
                    seconds: DAY,
                    nanos: 1,
                },
                None,
            ),
            (
                prost_types::Duration {
                    seconds: 60,
                    nanos: -1,
                },
                None,
            ),
            (
                prost_types::Duration {
                    seconds: 60,
                    nanos: i32::MAX,
                },
                None,
            ),
        ];
        for (ttl, expected) in cases {
            let request = proto::IssueTokenRequest {
                ttl: Some(ttl),
                ..alice(&tenant)
            };
            let answer = server.issue(request).await;
            if let Some(expected) = expected {
                assert_eq!(life(&answer.unwrap()), expected, "{ttl:?}");
            } else {
                let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
                assert_eq!(fields(&status), ["ttl"], "{ttl:?}");
            }
        }
        let hour = 3_600_000_000_i64;
        server
            .sql(&format!(
                "UPDATE spaces SET max_token_ttl = {hour} WHERE slug = 'acme'"
            ))
            .await;
        assert_eq!(life(&server.issue(alice(&tenant)).await.unwrap()), 3_600);
        let longer = proto::IssueTokenRequest {
            ttl: Some(seconds(3_601)),
            ..alice(&tenant)
        };
        refused(
            server.issue(longer).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
    }
);

both!(a_space_is_told_of_only_after_the_password, async |server| {
    let tenant = server.tenant("acme").await;
    server.space("globex").await;
    for space in [
        "globex",
        "nowhere",
        "spc_01k00000000000000000000000",
        "system",
        "'",
    ] {
        let right = password_request(&tenant.name("alice"), PASSWORD, space);
        let status = refused(
            server.issue(right).await,
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
        );
        assert_eq!(metadata_of(&status, "resource"), "space");
        let wrong = password_request(&tenant.name("alice"), "wrong", space);
        refused(
            server.issue(wrong).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        // The throttle is another test's.
        server.clock.advance(Duration::from_secs(10));
    }
    for space in ["acme", tenant.space.as_str()] {
        let token = server.sign_in(&tenant.name("alice"), PASSWORD, space).await;
        assert_eq!(token.principal.unwrap().space_slug, "acme");
    }
});

both!(
    a_user_acts_elsewhere_where_it_holds_a_role,
    async |server| {
        let tenant = server.tenant("acme").await;
        let globex = server.space("globex").await;
        server.role(&globex, "guest", &["parties.attend"]).await;
        server.assign(&globex, &tenant.alice, "guest").await;
        let token = server
            .sign_in(&tenant.name("alice"), PASSWORD, "globex")
            .await;
        assert_eq!(token.scopes, ["authority.self", "parties.attend"]);
        let principal = token.principal.unwrap();
        assert_eq!(principal.space_id, globex.as_str());
        assert_eq!(principal.roles, ["guest"]);
    }
);

both!(a_request_without_a_credential_is_told_so, async |server| {
    let status = refused(
        server.issue(proto::IssueTokenRequest::default()).await,
        Code::InvalidArgument,
        "FIELD_INVALID",
    );
    assert_eq!(fields(&status), ["credential"]);
});

both!(a_token_over_4_kib_is_not_made, async |server| {
    let space = server.space("acme").await;
    let many: Vec<String> = (0..40).map(|n| format!("{}{n}", "x".repeat(110))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    server.role(&space, "hoarder", &many).await;
    let user = server.user(&space, "smaug").await;
    server.assign(&space, &user, "hoarder").await;
    let request = password_request("smaug", PASSWORD, "");
    refused(
        server.issue(request.clone()).await,
        Code::FailedPrecondition,
        "TOKEN_TOO_LARGE",
    );
    let narrow = proto::IssueTokenRequest {
        scopes: texts(&many[..3]),
        ..request
    };
    assert_eq!(server.issue(narrow).await.unwrap().scopes.len(), 3);
});

both!(
    an_api_key_is_exchanged_for_a_jwt_of_its_space,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, open) = server.made_key(&tenant.alice_token, key(&[])).await;
        let token = server.exchange(&open).await;
        assert_eq!(token.scopes, CLERK, "authority.self only where named");
        let claims = claims_of(&token.access_token);
        assert_eq!(
            (&claims["client_id"], &claims["api_key_id"]),
            (&id.clone().into(), &id.clone().into())
        );
        assert_eq!(claims["narrowed"], false);
        assert_eq!(token.principal.clone().unwrap().api_key_id, id);
        assert_eq!(life(&token), DAY);

        let (_, narrow) = server
            .made_key(&tenant.alice_token, key(&["orders.read"]))
            .await;
        let token = server.exchange(&narrow).await;
        assert_eq!(token.scopes, ["orders.read"]);
        assert_eq!(claims_of(&token.access_token)["narrowed"], true);

        for space in ["acme", "ACME", tenant.space.as_str()] {
            let request = proto::IssueTokenRequest {
                space: space.to_owned(),
                ..exchange_request(&open)
            };
            server.issue(request).await.unwrap();
        }
        for space in ["system", "nowhere"] {
            let request = proto::IssueTokenRequest {
                space: space.to_owned(),
                ..exchange_request(&open)
            };
            refused(
                server.issue(request).await,
                Code::NotFound,
                "RESOURCE_NOT_FOUND",
            );
        }
        let greedy = proto::IssueTokenRequest {
            scopes: texts(&["orders.write"]),
            ..exchange_request(&narrow)
        };
        refused(
            server.issue(greedy).await,
            Code::PermissionDenied,
            "EXCEEDS_GRANT",
        );
    }
);

both!(
    a_key_bound_to_networks_cannot_be_exchanged,
    async |server| {
        let tenant = server.tenant("acme").await;
        let bound = proto::ApiKey {
            allowed_cidrs: texts(&["127.0.0.0/8"]),
            ..key(&[])
        };
        let (_, bound) = server.made_key(&tenant.alice_token, bound).await;
        refused(
            server.issue(exchange_request(&bound)).await,
            Code::FailedPrecondition,
            "API_KEY_BOUND",
        );
    }
);

both!(a_keys_audiences_are_its_tokens_audiences, async |server| {
    let tenant = server.tenant("acme").await;
    let meant = proto::ApiKey {
        audiences: texts(&["orders", "billing"]),
        ..key(&[])
    };
    let (_, meant) = server.made_key(&tenant.alice_token, meant).await;
    let token = server.exchange(&meant).await;
    assert_eq!(
        claims_of(&token.access_token)["aud"],
        serde_json::json!(["orders", "billing"])
    );
    let fewer = proto::IssueTokenRequest {
        audiences: texts(&["billing"]),
        ..exchange_request(&meant)
    };
    let token = server.issue(fewer).await.unwrap();
    assert_eq!(
        claims_of(&token.access_token)["aud"],
        serde_json::json!(["billing"])
    );
    let other = proto::IssueTokenRequest {
        audiences: texts(&["billing", "shipping"]),
        ..exchange_request(&meant)
    };
    let status = refused(
        server.issue(other).await,
        Code::PermissionDenied,
        "EXCEEDS_GRANT",
    );
    assert!(status.message().contains("shipping"), "{status}");
});

both!(a_token_ends_with_its_key_at_the_latest, async |server| {
    let tenant = server.tenant("acme").await;
    let end = server.clock.now() + minutes(90);
    let short = proto::ApiKey {
        expire_time: Some(prost_types::Timestamp {
            seconds: end.seconds(),
            nanos: 0,
        }),
        ..key(&[])
    };
    let (_, short) = server.made_key(&tenant.alice_token, short).await;
    assert_eq!(
        server.exchange(&short).await.expire_time.unwrap().seconds,
        end.seconds()
    );
    let shorter = proto::IssueTokenRequest {
        ttl: Some(seconds(600)),
        ..exchange_request(&short)
    };
    let token = server.issue(shorter).await.unwrap();
    assert_eq!(life(&token), 600);
    // One that was rotated ends with the key, too.
    server.clock.advance(minutes(5));
    let rotated = server
        .rotated(&server.exchange(&short).await.access_token)
        .await;
    assert_eq!(rotated.unwrap().expire_time.unwrap().seconds, end.seconds());
});

both!(a_key_that_is_not_good_is_not_exchanged, async |server| {
    let tenant = server.tenant("acme").await;
    let soon = server.clock.now() + minutes(1);
    let expiring = proto::ApiKey {
        expire_time: Some(prost_types::Timestamp {
            seconds: soon.seconds(),
            nanos: 0,
        }),
        ..key(&[])
    };
    let (_, expired) = server.made_key(&tenant.alice_token, expiring).await;
    let (revoked_id, revoked) = server.made_key(&tenant.alice_token, key(&[])).await;
    let off = proto::ApiKey {
        disabled: true,
        ..key(&[])
    };
    let (_, disabled) = server.made_key(&tenant.alice_token, off).await;
    server
        .revoke_key(&tenant.alice_token, &revoked_id)
        .await
        .unwrap();
    server.clock.advance(minutes(1));
    let mut answers = Vec::new();
    for token in [
        &*expired,
        &revoked,
        &disabled,
        "ta_unknown",
        "",
        &tenant.alice_token,
    ] {
        let status = refused(
            server.issue(exchange_request(token)).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        answers.push((status.message().to_owned(), status.details().to_vec()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "all alike");
});

/// Rows of the sessions that two exchanges begin.
async fn sessions(server: &Server, api_key: &str) -> [String; 2] {
    [
        server.exchange(api_key).await.session_id,
        server.exchange(api_key).await.session_id,
    ]
}

both!(every_exchange_begins_a_session, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, open) = server.made_key(&tenant.alice_token, key(&[])).await;
    let [one, other] = sessions(server, &open).await;
    assert_ne!(one, other);
});
