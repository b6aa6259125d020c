//! Keys that were guessed, mistyped, cut, folded or put where they do not belong.

use token_authority::{
    domain::{
        api_key::{ApiKeyToken, KeyPrefix},
        ids::ApiKeyId,
    },
    proto::{self, InactiveReason as Why},
};
use tonic::Code;

use crate::support::{
    Server, as_caller, both, exchange_request, key, minutes, password_request, refused,
};

/// That a presented text is nothing, wherever it is presented.
async fn is_nothing(server: &Server, judge: &str, token: &str) {
    let why = server.verdict(judge, token).await.unwrap_err();
    assert!(
        [Why::Unknown, Why::Malformed].contains(&why),
        "{token:?} {why:?}"
    );
    refused(
        server.issue(exchange_request(token)).await,
        Code::Unauthenticated,
        "CREDENTIALS_INVALID",
    );
    assert_eq!(server.revoke(token).await, None);
}

both!(
    a01_one_character_changed_makes_a_key_unknown,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (_, token) = server.made_key(&tenant.alice_token, key(&[])).await;
        let unknown =
            ApiKeyToken::mint(KeyPrefix::default(), ApiKeyId::random().unwrap(), &[7; 32]);
        let unknown = server
            .introspect(&tenant.boss_token, &unknown.expose())
            .await;
        let mut changed = Vec::new();
        for place in 0..token.len() {
            for other in ['0', 'z'] {
                let mut bytes = token.clone().into_bytes();
                bytes[place] = if char::from(bytes[place]) == other {
                    b'1'
                } else {
                    other as u8
                };
                changed.push(String::from_utf8(bytes).unwrap());
            }
        }
        let request = proto::BatchIntrospectTokensRequest {
            tokens: changed.clone(),
            ..Default::default()
        };
        let told = server.judge_all(&tenant.boss_token, request).await.unwrap();
        for (token, told) in changed.iter().zip(told) {
            // The prefix cannot begin with a digit, and the marks between the parts must be there: that has no form of a key.
            if token_authority::domain::api_key::has_form(token) {
                assert_eq!(told, unknown, "{token}");
            } else {
                assert_eq!(told.inactive_reason(), Why::Malformed, "{token}");
            }
        }
        assert_eq!(server.verdict(&tenant.boss_token, &token).await, Ok(()));
    }
);

both!(
    a02_a_good_checksum_over_a_guess_costs_no_hash,
    async |server| {
        let root = server.admin().await.access_token;
        let hashes = server.authority.hashing.count();
        for seed in 0..20 {
            let guess = ApiKeyToken::mint(
                KeyPrefix::default(),
                ApiKeyId::random().unwrap(),
                &[seed; 32],
            );
            is_nothing(server, &root, &guess.expose()).await;
            refused(
                server.who(&guess.expose()).await,
                Code::Unauthenticated,
                "CREDENTIALS_INVALID",
            );
        }
        assert_eq!(server.authority.hashing.count(), hashes);
    }
);

both!(a_wrong_checksum_costs_no_look_up, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
    let (front, _) = token.rsplit_once('_').unwrap();
    let wrong = (0..128).flat_map(|n| [format!("{front}_{n:032}"), format!("ta_{id}_{n:032}")]);
    let request = proto::BatchIntrospectTokensRequest {
        tokens: wrong.collect(),
        ..Default::default()
    };
    let mut tokens = server.tokens().await;
    let asking = tokens.batch_introspect_tokens(as_caller(&tenant.boss_token, request));
    let (spent, told) = server.statements_of(asking).await;
    let told = told.unwrap().into_inner().introspections;
    let unknown = |told: &proto::TokenIntrospection| told.inactive_reason() == Why::Unknown;
    assert!(told.len() == 256 && told.iter().all(unknown));
    assert!(spent < 256 / 2, "{spent} statements");
});

both!(a04_a_key_has_one_spelling, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, token) = server.made_key(&tenant.alice_token, key(&[])).await;
    let (front, secret) = token.rsplit_once('_').unwrap();
    let spellings = [
        token.to_uppercase(),
        token.to_lowercase(),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}\0"),
        format!("Bearer {token}"),
        format!("{front}_{secret}0"),
        token.replace('_', "-"),
        token.replace('_', "\u{ff3f}"),
        format!("{front}__{secret}"),
        format!("{token}_"),
        format!("\"{token}\""),
        token[..token.len() - 1].to_owned(),
    ];
    for spelling in spellings {
        is_nothing(server, &tenant.boss_token, &spelling).await;
    }
});

both!(a06_half_a_key_is_none, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
    let (_, other) = server.made_key(&tenant.alice_token, key(&[])).await;
    let (front, secret) = token.rsplit_once('_').unwrap();
    let (other_front, other_secret) = other.rsplit_once('_').unwrap();
    let halves = [
        id.clone(),
        secret.to_owned(),
        front.to_owned(),
        format!("{front}_"),
        format!("_{secret}"),
        format!("ta_{secret}"),
        format!("ta__{secret}"),
        format!("{front}_{other_secret}"),
        format!("{other_front}_{secret}"),
    ];
    for half in halves {
        is_nothing(server, &tenant.boss_token, &half).await;
    }
});

both!(
    a07_a_key_ends_with_the_second_it_expires_in,
    async |server| {
        let tenant = server.tenant("acme").await;
        let end = server.clock.now().seconds() + 60;
        let short = proto::ApiKey {
            expire_time: Some(prost_types::Timestamp {
                seconds: end,
                nanos: 0,
            }),
            ..key(&["authority.self"])
        };
        let (_, token) = server.made_key(&tenant.alice_token, short).await;
        let jwt = server.exchange(&token).await.access_token;
        let left = token_authority::clock::Timestamp::from_seconds(end).since(server.clock.now());
        server.clock.advance(
            left.checked_sub(std::time::Duration::from_micros(1))
                .unwrap(),
        );
        assert_eq!(server.verdict(&tenant.boss_token, &token).await, Ok(()));
        server.who(&token).await.unwrap();
        server.clock.advance(std::time::Duration::from_micros(1));
        assert_eq!(
            server.verdict(&tenant.boss_token, &token).await,
            Err(Why::Expired)
        );
        assert_eq!(
            server.verdict(&tenant.boss_token, &jwt).await,
            Err(Why::Expired)
        );
        refused(
            server.who(&token).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
    }
);

both!(
    a08_a_key_stands_and_falls_with_its_user_and_its_roles,
    async |server| {
        let tenant = server.tenant("acme").await;
        server.role(&tenant.space, "captain", &["ships.sail"]).await;
        server.assign(&tenant.space, &tenant.alice, "captain").await;
        let alice = server.token_of("alice.acme").await;
        let named = proto::ApiKey {
            roles: vec!["captain".to_owned()],
            ..key(&[])
        };
        let (_, captain) = server.made_key(&alice, named).await;
        let (_, open) = server.made_key(&alice, key(&[])).await;
        let jwt = server.exchange(&captain).await.access_token;
        assert_eq!(
            server.introspect(&tenant.boss_token, &captain).await.scopes,
            ["ships.sail"]
        );
        assert_eq!(
            server
                .introspect(&tenant.boss_token, &open)
                .await
                .scopes
                .len(),
            4
        );

        server
            .operator()
            .await
            .unassign(&tenant.space, &tenant.alice, "captain")
            .await;
        // A list of roles that became empty never means all.
        assert_eq!(
            server.verdict(&tenant.boss_token, &captain).await,
            Err(Why::Revoked)
        );
        assert_eq!(
            server.verdict(&tenant.boss_token, &jwt).await,
            Err(Why::Revoked)
        );
        assert_eq!(
            server
                .introspect(&tenant.boss_token, &open)
                .await
                .scopes
                .len(),
            3
        );
        server.assign(&tenant.space, &tenant.alice, "captain").await;
        assert_eq!(server.verdict(&tenant.boss_token, &captain).await, Ok(()));
        assert_eq!(
            server.verdict(&tenant.boss_token, &jwt).await,
            Err(Why::Revoked),
            "a JWT stays dead"
        );

        server
            .operator()
            .await
            .set_disabled(&tenant.alice, true)
            .await;
        for token in [&captain, &open] {
            assert_eq!(
                server.verdict(&tenant.boss_token, token).await,
                Err(Why::Disabled)
            );
            refused(
                server.issue(exchange_request(token)).await,
                Code::Unauthenticated,
                "CREDENTIALS_INVALID",
            );
            refused(
                server.who(token).await,
                Code::Unauthenticated,
                "CREDENTIALS_INVALID",
            );
        }
    }
);

both!(a_guests_key_ends_with_its_last_role_there, async |server| {
    let tenant = server.tenant("acme").await;
    let globex = server.tenant("globex").await;
    server
        .role(&globex.space, "guest", &["parties.attend"])
        .await;
    server.assign(&globex.space, &tenant.alice, "guest").await;
    let guest = server
        .sign_in("alice.acme", crate::support::PASSWORD, "globex")
        .await
        .access_token;
    let (_, token) = server.made_key(&guest, key(&[])).await;
    assert_eq!(server.verdict(&globex.boss_token, &token).await, Ok(()));
    server
        .operator()
        .await
        .unassign(&globex.space, &tenant.alice, "guest")
        .await;
    assert_eq!(
        server.verdict(&globex.boss_token, &token).await,
        Err(Why::Revoked)
    );
    assert_eq!(
        server.verdict(&globex.boss_token, &guest).await,
        Err(Why::Revoked)
    );
    assert_eq!(
        server
            .verdict(&tenant.boss_token, &tenant.alice_token)
            .await,
        Ok(()),
        "at home all is as it was"
    );
});

both!(
    a18_each_credential_is_good_for_its_own_use_alone,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, api_key) = server.made_key(&tenant.alice_token, key(&[])).await;
        let jwt = &tenant.alice_token;
        let secret = api_key.rsplit_once('_').unwrap().1;
        let sign_ins = [
            ("alice.acme", &*api_key),
            ("alice.acme", secret),
            ("alice.acme", jwt),
            (&*id, secret),
            (&*id, &*api_key),
            (&*api_key, &*api_key),
            (tenant.alice.as_str(), crate::support::PASSWORD),
        ];
        for (name, password) in sign_ins {
            let answer = server.issue(password_request(name, password, "")).await;
            refused(answer, Code::Unauthenticated, "CREDENTIALS_INVALID");
            // The throttle is another test's.
            server.clock.advance(std::time::Duration::from_secs(10));
        }
        for not_a_key in [crate::support::PASSWORD, jwt, &id, secret] {
            let answer = server.issue(exchange_request(not_a_key)).await;
            refused(answer, Code::Unauthenticated, "CREDENTIALS_INVALID");
        }
        refused(
            server.rotated(&api_key).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        refused(
            server.who(crate::support::PASSWORD).await,
            Code::Unauthenticated,
            "CREDENTIALS_INVALID",
        );
        assert!(
            server
                .verdict(&tenant.boss_token, crate::support::PASSWORD)
                .await
                .is_err()
        );
    }
);

both!(a_key_is_bound_to_networks_as_a_bearer_too, async |server| {
    let tenant = server.tenant("acme").await;
    let bound = |cidr: &str| proto::ApiKey {
        allowed_cidrs: vec![cidr.to_owned()],
        ..key(&["authority.self"])
    };
    let (_, near) = server
        .made_key(&tenant.alice_token, bound("127.0.0.0/8"))
        .await;
    let (_, far) = server
        .made_key(&tenant.alice_token, bound("10.0.0.0/8"))
        .await;
    server.who(&near).await.unwrap();
    refused(
        server.who(&far).await,
        Code::Unauthenticated,
        "CREDENTIALS_INVALID",
    );
    server.clock.advance(minutes(1));
    refused(
        server.who(&far).await,
        Code::Unauthenticated,
        "CREDENTIALS_INVALID",
    );
    // C09: whoever names another address is not believed.
    let mut request = as_caller(&far, proto::GetCallerIdentityRequest {});
    for (header, claimed) in [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
    ] {
        let claimed = claimed.parse().unwrap();
        request.metadata_mut().insert(header, claimed);
    }
    let claimed = server.tokens().await.get_caller_identity(request).await;
    refused(claimed, Code::Unauthenticated, "CREDENTIALS_INVALID");
});
