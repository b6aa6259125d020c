//! Introspection: one verdict, many verdicts, and who is told why.

use token_authority::proto::{self, InactiveReason as Why};
use tonic::Code;

use crate::support::{
    PASSWORD, both, fields, introspect_request, key, minutes, password_request, refused, seconds,
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn batch(tokens: Vec<String>) -> proto::BatchIntrospectTokensRequest {
    proto::BatchIntrospectTokensRequest {
        tokens,
        ..Default::default()
    }
}

both!(a_good_token_is_told_in_full, async |server| {
    let tenant = server.tenant("acme").await;
    let jwt = server.sign_in(&tenant.name("alice"), PASSWORD, "").await;
    let told = server
        .introspect(&tenant.boss_token, &jwt.access_token)
        .await;
    assert_eq!(told.active, Some(true));
    assert_eq!(told.kind(), proto::TokenKind::AccessToken);
    assert_eq!(told.inactive_reason(), Why::Unspecified);
    assert_eq!(told.token_id, jwt.token_id);
    assert_eq!(told.session_id, jwt.session_id);
    assert_eq!(told.principal, jwt.principal);
    assert_eq!(told.scopes, jwt.scopes);
    assert_eq!(told.issuer, *server.authority.issuer);
    assert_eq!(
        (told.issue_time, told.expire_time),
        (jwt.issue_time, jwt.expire_time)
    );

    let (id, api_key) = server
        .made_key(&tenant.alice_token, key(&["orders.read"]))
        .await;
    let told = server.introspect(&tenant.boss_token, &api_key).await;
    assert_eq!(
        (told.active, told.kind()),
        (Some(true), proto::TokenKind::ApiKey)
    );
    assert_eq!((&told.token_id, &*told.session_id), (&id, ""));
    assert_eq!(told.scopes, ["orders.read"]);
    assert_eq!(told.principal.unwrap().api_key_id, id);
    assert!(told.expire_time.is_some() && told.issue_time.is_some());
});

both!(a_batch_keeps_its_order, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, api_key) = server.made_key(&tenant.alice_token, key(&[])).await;
    let tokens = [
        &*tenant.alice_token,
        "garbage",
        &api_key,
        "",
        &tenant.boss_token,
        &tenant.alice_token,
    ];
    let told = server
        .judge_all(&tenant.boss_token, batch(texts(&tokens)))
        .await
        .unwrap();
    let users: Vec<String> = told
        .iter()
        .map(|one| one.principal.clone().unwrap_or_default().username)
        .collect();
    assert_eq!(
        users,
        [
            "alice.acme",
            "",
            "alice.acme",
            "",
            "boss.acme",
            "alice.acme"
        ]
    );
    let kinds: Vec<bool> = told.iter().map(|one| one.active.unwrap()).collect();
    assert_eq!(kinds, [true, false, true, false, true, true]);

    let request = proto::BatchIntrospectTokensRequest {
        required_scopes: texts(&["authority.audit.read"]),
        ..batch(texts(&tokens))
    };
    let told = server.judge_all(&tenant.boss_token, request).await.unwrap();
    let good: Vec<bool> = told.iter().map(|one| one.active.unwrap()).collect();
    assert_eq!(good, [false, false, false, false, true, false]);
});

both!(
    a_batch_is_answered_with_2_mebibytes_at_most,
    async |server| {
        let tenant = server.tenant("acme").await;
        // It may do whatever its user may, now and later.
        let (_, api_key) = server.made_key(&tenant.alice_token, key(&[])).await;
        let permissions: Vec<_> = (0..256).map(|number| format!("{number:0128}")).collect();
        let permissions: Vec<_> = permissions.iter().map(String::as_str).collect();
        server.role(&tenant.space, "wide", &permissions).await;
        server.assign(&tenant.space, &tenant.alice, "wide").await;
        let ask = async |count| {
            let request = batch(vec![api_key.clone(); count]);
            server.judge_all(&tenant.boss_token, request).await
        };
        let told = ask(32).await.unwrap();
        assert_eq!(told.len(), 32);
        assert!(told.iter().all(|told| told.scopes.len() >= 256));
        refused(ask(256).await, Code::FailedPrecondition, "TOKEN_TOO_LARGE");
    }
);

both!(a_batch_has_1_to_256_tokens, async |server| {
    let root = server.admin().await.access_token;
    for (count, taken) in [(0, false), (1, true), (256, true), (257, false)] {
        let answer = server
            .judge_all(&root, batch(vec![root.clone(); count]))
            .await;
        if taken {
            let told = answer.unwrap();
            assert_eq!(told.len(), count);
            assert!(told.iter().all(|one| one.active == Some(true)));
        } else {
            let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["tokens"], "{count}");
        }
    }
});

both!(
    audience_and_scopes_that_are_asked_for_count,
    async |server| {
        let tenant = server.tenant("acme").await;
        let request = proto::IssueTokenRequest {
            audiences: texts(&["orders", "billing"]),
            ..password_request(&tenant.name("alice"), PASSWORD, "")
        };
        let jwt = server.issue(request).await.unwrap().access_token;
        let (_, any) = server.made_key(&tenant.alice_token, key(&[])).await;
        let meant = proto::ApiKey {
            audiences: texts(&["orders"]),
            ..key(&["orders.read"])
        };
        let (_, meant) = server.made_key(&tenant.alice_token, meant).await;
        let cases: [(&str, &str, &[&str], Result<(), Why>); 13] = [
            (&jwt, "", &[], Ok(())),
            (&jwt, "orders", &["orders.read"], Ok(())),
            (&jwt, "billing", &["orders.read", "billing.read"], Ok(())),
            (&jwt, "shipping", &[], Err(Why::AudienceMismatch)),
            (&jwt, "orders ", &[], Err(Why::AudienceMismatch)),
            (
                &jwt,
                "orders",
                &["orders.read", "orders.delete"],
                Err(Why::ScopeMissing),
            ),
            (&jwt, "", &["ORDERS.READ"], Err(Why::ScopeMissing)),
            (&jwt, "", &[""], Err(Why::ScopeMissing)),
            (&any, "whatever", &["orders.write"], Ok(())),
            (&any, "", &["authority.self"], Err(Why::ScopeMissing)),
            (&meant, "orders", &["orders.read"], Ok(())),
            (&meant, "billing", &[], Err(Why::AudienceMismatch)),
            (&meant, "orders", &["orders.write"], Err(Why::ScopeMissing)),
        ];
        for (token, audience, scopes, expected) in cases {
            let request = proto::IntrospectTokenRequest {
                audience: audience.to_owned(),
                required_scopes: texts(scopes),
                ..introspect_request(token)
            };
            let told = server.judge(&tenant.boss_token, request).await.unwrap();
            let verdict = match told.active {
                Some(true) => Ok(()),
                _ => Err(told.inactive_reason()),
            };
            assert_eq!(verdict, expected, "{audience:?} {scopes:?}");
        }
    }
);

both!(only_who_may_is_told_why, async |server| {
    let tenant = server.tenant("acme").await;
    let watcher = server.user(&tenant.space, "watcher").await;
    server.assign(&tenant.space, &watcher, "introspector").await;
    let watcher = server.token_of("watcher").await;

    let short = proto::IssueTokenRequest {
        ttl: Some(seconds(60)),
        ..password_request(&tenant.name("alice"), PASSWORD, "")
    };
    let expired = server.issue(short).await.unwrap().access_token;
    let revoked = server.token_of("alice.acme").await;
    server.revoke(&revoked).await.unwrap();
    let off = proto::ApiKey {
        disabled: true,
        ..key(&[])
    };
    let (_, disabled) = server.made_key(&tenant.alice_token, off).await;
    let (ended_id, ended) = server.made_key(&tenant.alice_token, key(&[])).await;
    server
        .revoke_key(&tenant.alice_token, &ended_id)
        .await
        .unwrap();
    let unknown = format!(
        "{}{}",
        &ended[..ended.len() - 1],
        if ended.ends_with('0') { '1' } else { '0' }
    );
    server.clock.advance(minutes(1));

    let cases = [
        (expired, Why::Expired),
        (revoked, Why::Revoked),
        (disabled, Why::Disabled),
        (ended, Why::Revoked),
        (unknown, Why::Unknown),
        ("garbage".to_owned(), Why::Malformed),
        (String::new(), Why::Malformed),
        ("x".repeat(8 * 1024 + 1), Why::Malformed),
        (tenant.root_token.clone(), Why::Unknown),
    ];
    for (token, why) in cases {
        let explained = server.introspect(&tenant.boss_token, &token).await;
        assert_eq!(explained.inactive_reason(), why);
        let bare = proto::TokenIntrospection {
            active: Some(false),
            ..Default::default()
        };
        assert_eq!(server.introspect(&watcher, &token).await, bare, "{why:?}");
        let explained = proto::TokenIntrospection {
            inactive_reason: explained.inactive_reason,
            ..bare
        };
        assert_eq!(
            server.introspect(&tenant.boss_token, &token).await,
            explained
        );
    }
});

both!(a_token_of_another_space_is_unknown, async |server| {
    let acme = server.tenant("acme").await;
    let globex = server.tenant("globex").await;
    let (_, api_key) = server.made_key(&acme.alice_token, key(&[])).await;
    for token in [
        &acme.alice_token,
        &acme.boss_token,
        &api_key,
        &acme.root_token,
    ] {
        assert_eq!(
            server.verdict(&globex.boss_token, token).await,
            Err(Why::Unknown)
        );
        assert_eq!(server.verdict(&acme.root_token, token).await, Ok(()));
    }
    let own = server.judge_all(
        &globex.boss_token,
        batch(texts(&[&acme.alice_token, &globex.alice_token])),
    );
    let active: Vec<_> = own.await.unwrap().iter().map(|one| one.active).collect();
    assert_eq!(active, [Some(false), Some(true)]);
    // Nothing of a foreign token is told, not even that it has expired or was revoked.
    server.revoke(&acme.alice_token).await.unwrap();
    let why = server.verdict(&globex.boss_token, &acme.alice_token).await;
    let never = server
        .verdict(
            &globex.boss_token,
            "ta_0000000000000000_00000000000000000000000000000000",
        )
        .await;
    assert_eq!((why, never), (Err(Why::Unknown), Err(Why::Unknown)));
    server.revoke(&api_key).await.unwrap();
    let why = server.verdict(&globex.boss_token, &api_key).await;
    assert_eq!(why, Err(Why::Unknown));
    server.clock.advance(minutes(24 * 60));
    let judge = server.token_of("boss.globex").await;
    let foreign = server.verdict(&judge, &acme.boss_token).await;
    let own = server.verdict(&judge, &globex.boss_token).await;
    assert_eq!((foreign, own), (Err(Why::Unknown), Err(Why::Expired)));
});

both!(
    a_key_bound_to_networks_is_good_from_there_alone,
    async |server| {
        let tenant = server.tenant("acme").await;
        let bound = proto::ApiKey {
            allowed_cidrs: texts(&["10.1.0.0/16", "2001:db8::/32", "192.0.2.7"]),
            ..key(&["orders.read"])
        };
        let answer = server
            .create_key(
                &tenant.alice_token,
                crate::support::create_key(bound.clone()),
            )
            .await;
        let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["api_key.allowed_cidrs[2]"]);
        let bound = proto::ApiKey {
            allowed_cidrs: texts(&["10.1.0.0/16", "2001:db8::/32", "192.0.2.7/32"]),
            ..bound
        };
        let (_, bound) = server.made_key(&tenant.alice_token, bound).await;
        let (_, free) = server.made_key(&tenant.alice_token, key(&[])).await;
        let cases = [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("10.2.0.1", false),
            ("2001:db9::1", false),
            ("", false),
            ("10.1.2.3:443", false),
            ("10.1.2.3/16", false),
            (" 10.1.2.3", false),
            ("10.1.2.3, 10.1.2.4", false),
            ("localhost", false),
        ];
        for (address, good) in cases {
            let ask = |token: &str| proto::IntrospectTokenRequest {
                client_address: address.to_owned(),
                ..introspect_request(token)
            };
            let told = server.judge(&tenant.boss_token, ask(&bound)).await.unwrap();
            let why = if good {
                Why::Unspecified
            } else {
                Why::AddressNotAllowed
            };
            assert_eq!(
                (told.active, told.inactive_reason()),
                (Some(good), why),
                "{address:?}"
            );
            let told = server.judge(&tenant.boss_token, ask(&free)).await.unwrap();
            assert_eq!(told.active, Some(true), "{address:?}");
        }
    }
);

both!(a_disabled_user_has_no_good_token, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, api_key) = server.made_key(&tenant.alice_token, key(&[])).await;
    let exchanged = server.exchange(&api_key).await.access_token;
    for token in [&tenant.alice_token, &api_key, &exchanged] {
        assert_eq!(server.verdict(&tenant.boss_token, token).await, Ok(()));
    }
    let switch = async |off| {
        server
            .operator()
            .await
            .set_disabled(&tenant.alice, off)
            .await;
    };
    switch(true).await;
    let told = [
        server
            .verdict(&tenant.boss_token, &tenant.alice_token)
            .await,
        server.verdict(&tenant.boss_token, &api_key).await,
        server.verdict(&tenant.boss_token, &exchanged).await,
    ];
    assert_eq!(
        told,
        [Err(Why::Revoked), Err(Why::Disabled), Err(Why::Revoked)]
    );
    let answer = server
        .issue(password_request("alice.acme", PASSWORD, ""))
        .await;
    refused(answer, Code::Unauthenticated, "CREDENTIALS_INVALID");
    switch(false).await;
    let told = [
        server
            .verdict(&tenant.boss_token, &tenant.alice_token)
            .await,
        server.verdict(&tenant.boss_token, &api_key).await,
    ];
    assert_eq!(told, [Err(Why::Revoked), Ok(())]);
});
