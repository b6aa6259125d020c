//! Reading keys, one and many.

use token_authority::{clock::Timestamp, proto};
use tonic::Code;

use crate::support::{both, fields, key, minutes, refused};

use proto::ApiKeyState as State;

fn named(name: &str) -> proto::ApiKey {
    proto::ApiKey {
        display_name: name.to_owned(),
        ..key(&[])
    }
}

fn names(answer: &proto::ListApiKeysResponse) -> Vec<&str> {
    answer
        .api_keys
        .iter()
        .map(|key| &*key.display_name)
        .collect()
}

fn at(time: Timestamp) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: time.seconds(),
        nanos: 0,
    })
}

both!(neither_secret_nor_digest_is_ever_told, async |server| {
    let tenant = server.tenant("acme").await;
    let made = server
        .create_key(&tenant.alice_token, crate::support::create_key(key(&[])))
        .await
        .unwrap();
    let (id, secret) = (
        made.api_key.clone().unwrap().api_key_id,
        made.api_key_token.rsplit_once('_').unwrap().1,
    );
    let rotated = server
        .rotate_key(
            &tenant.alice_token,
            crate::support::rotate_key(&id, crate::support::seconds(60)),
        )
        .await
        .unwrap();
    let new_secret = rotated.api_key_token.rsplit_once('_').unwrap().1;
    let digest = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        digest
            .as_ref()
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let told = [
        format!("{:?}", made.api_key),
        format!("{:?}", rotated.api_key),
        format!(
            "{:?}",
            server.get_key(&tenant.boss_token, &id).await.unwrap()
        ),
        format!(
            "{:?}",
            server
                .list_keys(&tenant.boss_token, proto::ListApiKeysRequest::default())
                .await
                .unwrap()
        ),
        format!(
            "{:?}",
            server.revoke_key(&tenant.boss_token, &id).await.unwrap()
        ),
    ];
    for told in told {
        for hidden in [
            secret,
            new_secret,
            &digest(secret),
            &digest(new_secret),
            &digest(&made.api_key_token),
        ] {
            assert!(
                !told.to_lowercase().contains(&hidden.to_lowercase()),
                "{told}"
            );
        }
    }
});

both!(
    keys_are_listed_newest_first_and_page_by_page,
    async |server| {
        let tenant = server.tenant("acme").await;
        for n in 0..7 {
            server
                .made_key(&tenant.alice_token, named(&format!("key {n}")))
                .await;
            // Two of a moment come in one order, too.
            if n % 2 == 0 {
                server.clock.advance(minutes(1));
            }
        }
        let ask = |page_size, page_token: &str| proto::ListApiKeysRequest {
            page_size,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        let whole = server
            .list_keys(&tenant.alice_token, ask(0, ""))
            .await
            .unwrap();
        assert_eq!((whole.api_keys.len(), &*whole.next_page_token), (7, ""));
        let times: Vec<_> = whole
            .api_keys
            .iter()
            .map(|key| key.create_time.unwrap().seconds)
            .collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older));
        assert_eq!(whole.api_keys[0].display_name, names(&whole)[0]);

        for size in [1, 2, 3, 6, 7, 500] {
            let (mut paged, mut token) = (Vec::new(), String::new());
            loop {
                let page = server
                    .list_keys(&tenant.alice_token, ask(size, &token))
                    .await
                    .unwrap();
                assert!(page.api_keys.len() <= usize::try_from(size).unwrap());
                paged.extend(page.api_keys);
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(paged, whole.api_keys, "pages of {size}");
        }
        for size in [-1, 501, i32::MAX, i32::MIN] {
            let status = refused(
                server.list_keys(&tenant.alice_token, ask(size, "")).await,
                Code::InvalidArgument,
                "FIELD_INVALID",
            );
            assert_eq!(fields(&status), ["page_size"]);
        }
    }
);

both!(
    a_key_made_between_two_pages_disturbs_nothing,
    async |server| {
        let tenant = server.tenant("acme").await;
        for n in 0..4 {
            server
                .made_key(&tenant.alice_token, named(&format!("key {n}")))
                .await;
            server.clock.advance(minutes(1));
        }
        let ask = |page_token: String| proto::ListApiKeysRequest {
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let first = server
            .list_keys(&tenant.alice_token, ask(String::new()))
            .await
            .unwrap();
        server.made_key(&tenant.alice_token, named("late")).await;
        let second = server
            .list_keys(&tenant.alice_token, ask(first.next_page_token.clone()))
            .await
            .unwrap();
        assert_eq!(
            (names(&first), names(&second)),
            (vec!["key 3", "key 2"], vec!["key 1", "key 0"])
        );
    }
);

both!(a_page_token_is_of_its_listing_alone, async |server| {
    let tenant = server.tenant("acme").await;
    let globex = server.tenant("globex").await;
    for n in 0..3 {
        server
            .made_key(&tenant.alice_token, named(&format!("key {n}")))
            .await;
    }
    let ask = |page_token: &str| proto::ListApiKeysRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let good = server
        .list_keys(&tenant.alice_token, ask(""))
        .await
        .unwrap()
        .next_page_token;
    // Another page size is the same listing.
    let wider = proto::ListApiKeysRequest {
        page_size: 2,
        ..ask(&good)
    };
    assert_eq!(
        server
            .list_keys(&tenant.alice_token, wider)
            .await
            .unwrap()
            .api_keys
            .len(),
        2
    );

    let other_states = proto::ListApiKeysRequest {
        states: vec![State::Active.into()],
        ..ask(&good)
    };
    let other_user = proto::ListApiKeysRequest {
        user: "alice.acme".to_owned(),
        ..ask(&good)
    };
    let other_time = proto::ListApiKeysRequest {
        expire_before: at(server.clock.now()),
        ..ask(&good)
    };
    for request in [other_states, other_user, other_time] {
        refused(
            server.list_keys(&tenant.alice_token, request).await,
            Code::InvalidArgument,
            "PAGE_TOKEN_INVALID",
        );
    }
    refused(
        server.list_keys(&globex.alice_token, ask(&good)).await,
        Code::InvalidArgument,
        "PAGE_TOKEN_INVALID",
    );
    let cursor = server
        .revoke(&server.token_of("boss.acme").await)
        .await
        .unwrap()
        .cursor;
    let changed = format!(
        "{}{}",
        if good.starts_with('A') { 'B' } else { 'A' },
        &good[1..]
    );
    for garbled in [
        "x",
        "🦀",
        "' OR 1=1--",
        &good[1..],
        &good[..good.len() - 1],
        &changed,
        &cursor,
        &"A".repeat(5_000),
    ] {
        refused(
            server.list_keys(&tenant.alice_token, ask(garbled)).await,
            Code::InvalidArgument,
            "PAGE_TOKEN_INVALID",
        );
    }
});

both!(
    a_listing_leaves_out_revoked_ones_unless_asked,
    async |server| {
        let tenant = server.tenant("acme").await;
        let short = proto::ApiKey {
            expire_time: at(server.clock.now() + minutes(5)),
            ..named("expired")
        };
        server.made_key(&tenant.alice_token, short).await;
        server
            .made_key(
                &tenant.alice_token,
                proto::ApiKey {
                    disabled: true,
                    ..named("disabled")
                },
            )
            .await;
        server.made_key(&tenant.alice_token, named("active")).await;
        let (revoked, _) = server.made_key(&tenant.alice_token, named("revoked")).await;
        server
            .revoke_key(&tenant.alice_token, &revoked)
            .await
            .unwrap();
        server.clock.advance(minutes(5));
        let cases: [(&[State], &[&str]); 7] = [
            (&[], &["active", "disabled", "expired"]),
            (&[State::Active], &["active"]),
            (&[State::Disabled], &["disabled"]),
            (&[State::Expired], &["expired"]),
            (&[State::Revoked], &["revoked"]),
            (
                &[State::Revoked, State::Active, State::Active],
                &["active", "revoked"],
            ),
            (
                &[
                    State::Active,
                    State::Disabled,
                    State::Expired,
                    State::Revoked,
                ],
                &["active", "disabled", "expired", "revoked"],
            ),
        ];
        for (states, expected) in cases {
            let request = proto::ListApiKeysRequest {
                states: states.iter().map(|state| (*state).into()).collect(),
                ..Default::default()
            };
            let answer = server
                .list_keys(&tenant.alice_token, request)
                .await
                .unwrap();
            let mut listed = names(&answer);
            listed.sort_unstable();
            assert_eq!(listed, expected, "{states:?}");
            for key in &answer.api_keys {
                assert_eq!(
                    key.state().as_str_name(),
                    format!("API_KEY_STATE_{}", key.display_name.to_uppercase())
                );
                assert_eq!(key.revoke_time.is_some(), key.display_name == "revoked");
            }
        }
        for states in [vec![0], vec![1, 0], vec![99], vec![-1]] {
            let request = proto::ListApiKeysRequest {
                states,
                ..Default::default()
            };
            let status = refused(
                server.list_keys(&tenant.alice_token, request).await,
                Code::InvalidArgument,
                "FIELD_INVALID",
            );
            assert_eq!(fields(&status), ["states"]);
        }
    }
);

both!(
    a_listing_finds_what_expires_soon_and_what_nobody_uses,
    async |server| {
        let tenant = server.tenant("acme").await;
        let begin = server.clock.now();
        let ends = |name: &str, after| proto::ApiKey {
            expire_time: at(begin + minutes(after)),
            ..named(name)
        };
        server.made_key(&tenant.alice_token, ends("soon", 60)).await;
        let (_, used) = server
            .made_key(&tenant.alice_token, ends("later", 600))
            .await;
        let eternal = proto::CreateApiKeyRequest {
            no_expiry: true,
            ..crate::support::create_key(named("never"))
        };
        server
            .create_key(&tenant.alice_token, eternal)
            .await
            .unwrap();
        server.clock.advance(minutes(10));
        assert_eq!(server.verdict(&tenant.boss_token, &used).await, Ok(()));
        token_authority::authority::last_use::write(&server.authority)
            .await
            .unwrap();
        let cases = [
            (at(begin + minutes(60)), None, vec![]),
            (at(begin + minutes(61)), None, vec!["soon"]),
            (at(begin + minutes(601)), None, vec!["later", "soon"]),
            (None, at(begin + minutes(5)), vec!["never", "soon"]),
            (
                None,
                at(begin + minutes(20)),
                vec!["later", "never", "soon"],
            ),
            (
                at(begin + minutes(601)),
                at(begin + minutes(5)),
                vec!["soon"],
            ),
        ];
        for (expire_before, unused_since, expected) in cases {
            let request = proto::ListApiKeysRequest {
                expire_before,
                unused_since,
                ..Default::default()
            };
            let answer = server
                .list_keys(&tenant.alice_token, request)
                .await
                .unwrap();
            let mut listed = names(&answer);
            listed.sort_unstable();
            assert_eq!(listed, expected, "{expire_before:?} {unused_since:?}");
        }
        let odd = Some(prost_types::Timestamp {
            seconds: -1,
            nanos: 0,
        });
        for (request, field) in [
            (
                proto::ListApiKeysRequest {
                    expire_before: odd,
                    ..Default::default()
                },
                "expire_before",
            ),
            (
                proto::ListApiKeysRequest {
                    unused_since: odd,
                    ..Default::default()
                },
                "unused_since",
            ),
        ] {
            let status = refused(
                server.list_keys(&tenant.alice_token, request).await,
                Code::InvalidArgument,
                "FIELD_INVALID",
            );
            assert_eq!(fields(&status), [field]);
        }
    }
);
