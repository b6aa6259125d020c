//! A key never lies beyond its maker.

use token_authority::proto;
use tonic::Code;

use crate::support::{
    PASSWORD, Server, Tenant, both, create_key, exchange_request, key, minutes, password_request,
    refused, rotate_key, seconds,
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A JWT of alice with these scopes alone.
async fn narrowed(server: &Server, tenant: &Tenant, scopes: &[&str]) -> String {
    let request = proto::IssueTokenRequest {
        scopes: texts(scopes),
        ..password_request(&tenant.name("alice"), PASSWORD, "")
    };
    server.issue(request).await.unwrap().access_token
}

fn of(user: &str, key: proto::ApiKey) -> proto::CreateApiKeyRequest {
    create_key(proto::ApiKey {
        user_id: user.to_owned(),
        ..key
    })
}

#[track_caller]
fn beyond<T>(answer: Result<T, tonic::Status>) {
    refused(answer, Code::PermissionDenied, "EXCEEDS_GRANT");
}

both!(a15_nobody_makes_a_key_that_may_do_more, async |server| {
    let tenant = server.tenant("acme").await;
    let alice = &tenant.alice_token;
    for scopes in [
        &["orders.delete"][..],
        &["orders.read", "authority.users.write"],
        &["authority.tokens.introspect"],
    ] {
        beyond(server.create_key(alice, create_key(key(scopes))).await);
    }
    for roles in [
        &["admin"][..],
        &["clerk", "admin"],
        &["captain"],
        &["introspector"],
    ] {
        let asked = proto::ApiKey {
            roles: texts(roles),
            ..key(&["orders.read"])
        };
        beyond(server.create_key(alice, create_key(asked)).await);
    }
    let within = proto::ApiKey {
        roles: texts(&["clerk"]),
        ..key(&["orders.read"])
    };
    server.create_key(alice, create_key(within)).await.unwrap();
    // An admin may give what it does not list itself, for a user who has it.
    server
        .create_key(&tenant.boss_token, of("alice.acme", key(&["orders.read"])))
        .await
        .unwrap();
    server
        .create_key(
            &tenant.root_token,
            proto::CreateApiKeyRequest {
                api_key: Some(proto::ApiKey {
                    space_id: "acme".to_owned(),
                    user_id: "alice.acme".to_owned(),
                    ..key(&[])
                }),
                ..Default::default()
            },
        )
        .await
        .unwrap();
});

both!(a_narrowed_credential_makes_narrowed_keys, async |server| {
    let tenant = server.tenant("acme").await;
    let caller = narrowed(server, &tenant, &["authority.self", "orders.read"]).await;
    server
        .create_key(&caller, create_key(key(&["orders.read"])))
        .await
        .unwrap();
    beyond(
        server
            .create_key(&caller, create_key(key(&["orders.write"])))
            .await,
    );
    beyond(server.create_key(&caller, create_key(key(&[]))).await);
    // Without authority.self there is nothing to manage.
    let caller = narrowed(server, &tenant, &["orders.read"]).await;
    let answer = server
        .create_key(&caller, create_key(key(&["orders.read"])))
        .await;
    refused(answer, Code::PermissionDenied, "PERMISSION_MISSING");
});

both!(nobody_holds_keys_for_who_may_do_more, async |server| {
    let tenant = server.tenant("acme").await;
    server
        .role(
            &tenant.space,
            "keeper",
            &[
                "authority.api_keys.write",
                "authority.api_keys.read",
                "orders.read",
            ],
        )
        .await;
    let keeper = server.user(&tenant.space, "keeper.acme").await;
    server.assign(&tenant.space, &keeper, "keeper").await;
    let keeper = server.token_of("keeper.acme").await;
    let modest = server.user(&tenant.space, "modest.acme").await;
    server.role(&tenant.space, "reader", &["orders.read"]).await;
    server.assign(&tenant.space, &modest, "reader").await;

    server
        .create_key(&keeper, of("modest.acme", key(&["orders.read"])))
        .await
        .unwrap();
    // However little the key may do, its user may do more than the keeper.
    beyond(
        server
            .create_key(&keeper, of("alice.acme", key(&["orders.read"])))
            .await,
    );
    beyond(
        server
            .create_key(&keeper, of("boss.acme", key(&["orders.read"])))
            .await,
    );
    let (id, _) = server
        .made_key(&tenant.alice_token, key(&["orders.read"]))
        .await;
    beyond(
        server
            .rotate_key(&keeper, rotate_key(&id, seconds(600)))
            .await,
    );
    // Taking away needs no more than the permission.
    let off = proto::ApiKey {
        api_key_id: id.clone(),
        disabled: true,
        ..Default::default()
    };
    server
        .update_key(&keeper, off.clone(), &["disabled"])
        .await
        .unwrap();
    let on = proto::ApiKey {
        disabled: false,
        ..off
    };
    beyond(server.update_key(&keeper, on, &["disabled"]).await);
    server.revoke_key(&keeper, &id).await.unwrap();
    // Nor for one who may do more in another space.
    let globex = server.space("globex").await;
    server.assign(&globex, &modest, "admin").await;
    beyond(
        server
            .create_key(&keeper, of("modest.acme", key(&["orders.read"])))
            .await,
    );
});

both!(
    widening_is_the_callers_to_give_and_narrowing_is_anybodys,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, _) = server
            .made_key(&tenant.alice_token, key(&["orders.read", "orders.write"]))
            .await;
        let caller = narrowed(server, &tenant, &["authority.self", "orders.read"]).await;
        let with = |scopes: &[&str]| proto::ApiKey {
            api_key_id: id.clone(),
            ..key(scopes)
        };
        server
            .update_key(&caller, with(&["orders.write"]), &["scopes"])
            .await
            .unwrap();
        beyond(
            server
                .update_key(&caller, with(&["orders.read", "orders.write"]), &["scopes"])
                .await,
        );
        beyond(server.update_key(&caller, with(&[]), &["scopes"]).await);
        let later = proto::ApiKey {
            expire_time: Some(prost_types::Timestamp {
                seconds: server.clock.now().seconds() + 365 * 86_400,
                nanos: 0,
            }),
            ..with(&[])
        };
        beyond(
            server
                .update_key(&caller, later.clone(), &["expire_time"])
                .await,
        );
        beyond(
            server
                .rotate_key(&caller, rotate_key(&id, seconds(600)))
                .await,
        );
        server
            .update_key(
                &caller,
                proto::ApiKey {
                    display_name: "mine".to_owned(),
                    ..with(&[])
                },
                &["display_name"],
            )
            .await
            .unwrap();
        server
            .update_key(&tenant.alice_token, later, &["expire_time"])
            .await
            .unwrap();
    }
);

both!(a_key_made_by_a_key_lies_within_it, async |server| {
    let tenant = server.tenant("acme").await;
    let end = server.clock.now() + minutes(600);
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let maker = proto::ApiKey {
        audiences: texts(&["orders", &server.authority.issuer]),
        allowed_cidrs: texts(&["127.0.0.0/8"]),
        expire_time: time(end.seconds()),
        ..key(&["authority.self", "orders.read"])
    };
    let (_, maker) = server.made_key(&tenant.alice_token, maker).await;
    let good = proto::ApiKey {
        audiences: texts(&["orders"]),
        allowed_cidrs: texts(&["127.0.0.1/32"]),
        ..key(&["orders.read"])
    };
    let made = server
        .create_key(&maker, create_key(good.clone()))
        .await
        .unwrap();
    assert_eq!(
        made.api_key.unwrap().expire_time,
        time(end.seconds()),
        "no longer than its maker"
    );
    let bad: [proto::ApiKey; 8] = [
        proto::ApiKey {
            audiences: vec![],
            ..good.clone()
        },
        proto::ApiKey {
            audiences: texts(&["orders", "billing"]),
            ..good.clone()
        },
        proto::ApiKey {
            allowed_cidrs: vec![],
            ..good.clone()
        },
        proto::ApiKey {
            allowed_cidrs: texts(&["127.0.0.0/7"]),
            ..good.clone()
        },
        proto::ApiKey {
            allowed_cidrs: texts(&["127.0.0.0/8", "::1/128"]),
            ..good.clone()
        },
        proto::ApiKey {
            expire_time: time(end.seconds() + 1),
            ..good.clone()
        },
        proto::ApiKey {
            scopes: texts(&["orders.write"]),
            ..good.clone()
        },
        proto::ApiKey {
            scopes: vec![],
            ..good.clone()
        },
    ];
    for asked in bad {
        beyond(server.create_key(&maker, create_key(asked)).await);
    }
    let eternal = proto::CreateApiKeyRequest {
        no_expiry: true,
        ..create_key(good)
    };
    beyond(server.create_key(&maker, eternal).await);
});

both!(a_jwt_of_a_key_is_bounded_as_the_key_is, async |server| {
    let tenant = server.tenant("acme").await;
    let issuer = &*server.authority.issuer;
    let maker = proto::ApiKey {
        audiences: texts(&["orders", issuer]),
        ..key(&["authority.self", "orders.read"])
    };
    let (_, maker) = server.made_key(&tenant.alice_token, maker).await;
    let jwt = server.exchange(&maker).await.access_token;
    let good = proto::ApiKey {
        audiences: texts(&["orders"]),
        ..key(&["orders.read"])
    };
    server
        .create_key(&jwt, create_key(good.clone()))
        .await
        .unwrap();
    beyond(
        server
            .create_key(
                &jwt,
                create_key(proto::ApiKey {
                    audiences: vec![],
                    ..good.clone()
                }),
            )
            .await,
    );
    let eternal = proto::CreateApiKeyRequest {
        no_expiry: true,
        ..create_key(good)
    };
    beyond(server.create_key(&jwt, eternal).await);
});

both!(
    a_narrowed_jwt_cannot_fetch_the_key_that_it_came_from,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (_, token) = server.made_key(&tenant.alice_token, key(&[])).await;
        let whole = server.exchange(&token).await.access_token;
        let request = proto::IssueTokenRequest {
            scopes: texts(&["orders.read"]),
            ..exchange_request(&token)
        };
        // The issuer is the audience by default, so that both may call here.
        let narrow = server.issue(request).await.unwrap().access_token;
        beyond(
            server
                .rotate_key(&narrow, rotate_key("", seconds(600)))
                .await,
        );
        assert_eq!(server.verdict(&tenant.boss_token, &token).await, Ok(()));
        server
            .rotate_key(&whole, rotate_key("", seconds(600)))
            .await
            .unwrap();
    }
);

both!(
    a_retry_is_judged_by_what_its_caller_may_now,
    async |server| {
        let tenant = server.tenant("acme").await;
        let scopes = ["authority.self", "orders.read", "orders.write"];
        let (maker_id, maker) = server.made_key(&tenant.alice_token, key(&scopes)).await;
        let request = proto::CreateApiKeyRequest {
            idempotency_key: "0191e2a0-0000-7000-8000-000000000001".to_owned(),
            ..create_key(key(&["orders.write"]))
        };
        let made = server.create_key(&maker, request.clone()).await.unwrap();
        let rotate = proto::RotateApiKeyRequest {
            idempotency_key: "0191e2a0-0000-7000-8000-000000000002".to_owned(),
            ..rotate_key(&made.api_key.unwrap().api_key_id, seconds(600))
        };
        server.rotate_key(&maker, rotate.clone()).await.unwrap();
        let less = proto::ApiKey {
            api_key_id: maker_id,
            ..key(&scopes[..2])
        };
        server
            .update_key(&tenant.alice_token, less, &["scopes"])
            .await
            .unwrap();
        beyond(server.create_key(&maker, request).await);
        beyond(server.rotate_key(&maker, rotate).await);
    }
);
