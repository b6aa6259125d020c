//! Whose keys somebody may see and change, and who may not even know of them.

use token_authority::proto;
use tonic::Code;

use crate::support::{
    PASSWORD, both, create_key, fields, key, metadata_of, password_request, refused, rotate_key,
    seconds,
};

fn rename(id: &str) -> proto::ApiKey {
    proto::ApiKey {
        api_key_id: id.to_owned(),
        ..key(&[])
    }
}

fn in_space(space: &str, user: &str) -> proto::CreateApiKeyRequest {
    create_key(proto::ApiKey {
        space_id: space.to_owned(),
        user_id: user.to_owned(),
        ..key(&["orders.read"])
    })
}

fn listing(space: &str, user: &str) -> proto::ListApiKeysRequest {
    proto::ListApiKeysRequest {
        space: space.to_owned(),
        user: user.to_owned(),
        ..Default::default()
    }
}

#[track_caller]
fn not_found<T>(answer: Result<T, tonic::Status>, resource: &str) {
    let status = refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(metadata_of(&status, "resource"), resource);
}

both!(who_may_not_know_of_a_key_does_not_find_it, async |server| {
    let acme = server.tenant("acme").await;
    let globex = server.tenant("globex").await;
    let colleague = server.user(&acme.space, "bob.acme").await;
    server.assign(&acme.space, &colleague, "clerk").await;
    let bob = server.token_of("bob.acme").await;
    let auditor = server.user(&acme.space, "audit.acme").await;
    server.assign(&acme.space, &auditor, "auditor").await;
    let auditor = server.token_of("audit.acme").await;
    let (id, api_key) = server
        .made_key(&acme.alice_token, key(&["orders.read"]))
        .await;
    let (_, other_key) = server.made_key(&bob, key(&["authority.self"])).await;
    // A user of another space, one of the same without the scope, another's key, the admin of another space.
    for caller in [&globex.alice_token, &globex.boss_token, &bob, &other_key] {
        not_found(server.get_key(caller, &id).await, "api_key");
        not_found(
            server
                .update_key(caller, rename(&id), &["display_name"])
                .await,
            "api_key",
        );
        not_found(
            server
                .rotate_key(caller, rotate_key(&id, seconds(600)))
                .await,
            "api_key",
        );
        not_found(server.revoke_key(caller, &id).await, "api_key");
    }
    // One who may read may not write, and is told so in the same words.
    server.get_key(&auditor, &id).await.unwrap();
    not_found(
        server
            .update_key(&auditor, rename(&id), &["display_name"])
            .await,
        "api_key",
    );
    not_found(
        server
            .rotate_key(&auditor, rotate_key(&id, seconds(600)))
            .await,
        "api_key",
    );
    not_found(server.revoke_key(&auditor, &id).await, "api_key");
    for caller in [
        &acme.alice_token,
        &acme.boss_token,
        &acme.root_token,
        &api_key,
    ] {
        assert_eq!(server.get_key(caller, &id).await.unwrap().api_key_id, id);
    }
    for nowhere in [
        "XkQBXKr652MV1VF9",
        "x",
        "' OR 1=1--",
        "ta_XkQBXKr652MV1VF9",
        &api_key,
    ] {
        not_found(server.get_key(&acme.root_token, nowhere).await, "api_key");
    }
});

both!(
    x04_keys_are_made_where_and_for_whom_the_caller_may,
    async |server| {
        let acme = server.tenant("acme").await;
        let globex = server.tenant("globex").await;
        let cases: [(&str, &str, &str, Option<&str>); 13] = [
            (&acme.alice_token, "", "", None),
            (&acme.alice_token, "acme", "alice.acme", None),
            (
                &acme.alice_token,
                acme.space.as_str(),
                acme.alice.as_str(),
                None,
            ),
            (&acme.alice_token, "globex", "", Some("space")),
            (&acme.alice_token, globex.space.as_str(), "", Some("space")),
            (&acme.alice_token, "nowhere", "", Some("space")),
            (&acme.alice_token, "", "boss.acme", Some("user")),
            (&acme.alice_token, "", "nobody", Some("user")),
            (&acme.boss_token, "", "alice.acme", None),
            (&acme.boss_token, "globex", "alice.globex", Some("space")),
            (&acme.boss_token, "", "alice.globex", Some("user")),
            (&acme.root_token, "acme", "alice.acme", None),
            (&acme.root_token, "acme", "alice.globex", Some("user")),
        ];
        for (caller, space, user, missing) in cases {
            let answer = server.create_key(caller, in_space(space, user)).await;
            if let Some(resource) = missing {
                not_found(answer, resource);
            } else {
                let told = answer.unwrap().api_key.unwrap();
                assert_eq!(
                    (&*told.space_id, &*told.user_id),
                    (acme.space.as_str(), acme.alice.as_str())
                );
            }
        }
    }
);

both!(a_listing_shows_what_the_caller_may_see, async |server| {
    let acme = server.tenant("acme").await;
    let globex = server.tenant("globex").await;
    server.made_key(&acme.alice_token, key(&[])).await;
    server.made_key(&acme.boss_token, key(&[])).await;
    server.made_key(&globex.alice_token, key(&[])).await;
    let (alice, boss, stranger) = (
        acme.alice.as_str(),
        acme.boss.as_str(),
        globex.alice.as_str(),
    );
    let cases: [(&str, &str, &str, &[&str]); 9] = [
        (&acme.alice_token, "", "", &[alice]),
        (&acme.alice_token, "acme", alice, &[alice]),
        (&acme.boss_token, "", "", &[boss, alice]),
        (&acme.boss_token, "", "alice.acme", &[alice]),
        (&acme.boss_token, "acme", "boss.acme", &[boss]),
        (&acme.root_token, "", "", &[]),
        (&acme.root_token, "acme", "", &[boss, alice]),
        (&acme.root_token, globex.space.as_str(), "", &[stranger]),
        (&acme.root_token, "acme", alice, &[alice]),
    ];
    for (caller, space, user, expected) in cases {
        let answer = server
            .list_keys(caller, listing(space, user))
            .await
            .unwrap();
        let mut users: Vec<&str> = answer.api_keys.iter().map(|key| &*key.user_id).collect();
        let mut expected = expected.to_vec();
        users.sort_unstable();
        expected.sort_unstable();
        assert_eq!(users, expected, "{space:?} {user:?}");
    }
    for (caller, space, user, missing) in [
        (&acme.alice_token, "", "boss.acme", "user"),
        (&acme.alice_token, "", "nobody", "user"),
        (&acme.alice_token, "globex", "", "space"),
        (&acme.boss_token, "globex", "", "space"),
        (&acme.boss_token, "", "alice.globex", "user"),
    ] {
        not_found(
            server.list_keys(caller, listing(space, user)).await,
            missing,
        );
    }
});

both!(
    without_authority_self_ones_own_keys_are_out_of_reach,
    async |server| {
        let acme = server.tenant("acme").await;
        let (id, _) = server
            .made_key(&acme.alice_token, key(&["orders.read"]))
            .await;
        let (own_id, plain) = server
            .made_key(&acme.alice_token, key(&["orders.read"]))
            .await;
        let request = proto::IssueTokenRequest {
            scopes: vec!["orders.read".to_owned()],
            ..password_request("alice.acme", PASSWORD, "")
        };
        let narrowed = server.issue(request).await.unwrap().access_token;
        for caller in [&narrowed, &plain] {
            let missing = [
                server.get_key(caller, &id).await.map(drop),
                server
                    .update_key(caller, rename(&id), &["display_name"])
                    .await
                    .map(drop),
                server
                    .rotate_key(caller, rotate_key(&id, seconds(600)))
                    .await
                    .map(drop),
                server.revoke_key(caller, &id).await.map(drop),
                server.create_key(caller, in_space("", "")).await.map(drop),
                server.list_keys(caller, listing("", "")).await.map(drop),
            ];
            for answer in missing {
                let status = refused(answer, Code::PermissionDenied, "PERMISSION_MISSING");
                assert_eq!(metadata_of(&status, "permission"), "authority.self");
            }
        }
        // The key that one came by is in reach all the same, but for changing it.
        for named in ["", &*own_id] {
            assert_eq!(
                server.get_key(&plain, named).await.unwrap().api_key_id,
                own_id
            );
        }
        let answer = server
            .update_key(&plain, rename(&own_id), &["display_name"])
            .await;
        refused(answer, Code::PermissionDenied, "PERMISSION_MISSING");
        let told = server
            .revoke_key(&plain, "")
            .await
            .unwrap()
            .api_key
            .unwrap();
        assert_eq!(
            (told.api_key_id.clone(), told.state()),
            (own_id, proto::ApiKeyState::Revoked)
        );
        for (caller, method) in [(&acme.alice_token, "get"), (&acme.alice_token, "revoke")] {
            let answer = match method {
                "get" => server.get_key(caller, "").await.map(drop),
                _ => server.revoke_key(caller, "").await.map(drop),
            };
            assert_eq!(
                fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")),
                ["api_key_id"]
            );
        }
    }
);

both!(
    a_user_is_seen_in_a_space_only_where_it_acts,
    async |server| {
        let acme = server.tenant("acme").await;
        let globex = server.tenant("globex").await;
        let with_role = |space: &str| {
            create_key(proto::ApiKey {
                space_id: space.to_owned(),
                user_id: "alice.acme".to_owned(),
                ..key(&["parties.attend"])
            })
        };
        not_found(
            server.create_key(&globex.boss_token, with_role("")).await,
            "user",
        );
        server
            .role(&globex.space, "guest", &["parties.attend"])
            .await;
        server.assign(&globex.space, &acme.alice, "guest").await;
        // Seen now, but alice may do things at home that the admin of another space may not.
        refused(
            server.create_key(&globex.boss_token, with_role("")).await,
            Code::PermissionDenied,
            "EXCEEDS_GRANT",
        );
        let guest = server
            .sign_in("alice.acme", PASSWORD, "globex")
            .await
            .access_token;
        let (id, token) = server.made_key(&guest, key(&["parties.attend"])).await;
        let told = server.introspect(&globex.boss_token, &token).await;
        assert_eq!(told.principal.unwrap().space_id, globex.space.as_str());
        // A credential of home does not see it, one of there does.
        not_found(server.get_key(&acme.alice_token, &id).await, "api_key");
        server.get_key(&guest, &id).await.unwrap();
    }
);
