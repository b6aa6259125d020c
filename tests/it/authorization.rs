//! Who may call what, of the methods that there are.

use token_authority::proto::{self, revocation_subject::Subject};
use tonic::{Code, Status};

use crate::support::{
    PASSWORD, Server, as_caller, both, introspect_request, key, minutes, password_request, reason,
    refused, rotate_key, seconds,
};

/// Every method that takes a credential, in the order of [`outcomes`].
const METHODS: [&str; 12] = [
    "IntrospectToken",
    "BatchIntrospectTokens",
    "GetCallerIdentity",
    "ListApiKeys",
    "GetApiKey",
    "UpdateApiKey",
    "RotateApiKey",
    "RevokeApiKey",
    "CreateApiKey",
    "CreateRevocation",
    "ListRevocations",
    "WatchRevocations",
];

fn request<T>(caller: Option<&str>, message: T) -> tonic::Request<T> {
    match caller {
        Some(token) => as_caller(token, message),
        None => tonic::Request::new(message),
    }
}

/// A revocation of a session that nobody has.
fn revocation(space: &str) -> proto::CreateRevocationRequest {
    let subject = Subject::SessionId("AAAAAAAAAAAAAAAAAAAAAA".to_owned());
    proto::CreateRevocationRequest {
        subject: Some(proto::RevocationSubject {
            subject: Some(subject),
        }),
        space: space.to_owned(),
        ..Default::default()
    }
}

async fn call_keys(server: &Server, caller: Option<&str>, method: &str) -> Result<(), Status> {
    let mut client = server.api_keys().await;
    // A key and a user that do not exist: who gets as far as not finding them may call.
    let id = "0000000000000000".to_owned();
    let mask = prost_types::FieldMask {
        paths: vec!["display_name".to_owned()],
    };
    let named = proto::ApiKey {
        api_key_id: id.clone(),
        ..key(&[])
    };
    match method {
        "ListApiKeys" => client
            .list_api_keys(request(caller, proto::ListApiKeysRequest::default()))
            .await
            .map(drop),
        "GetApiKey" => client
            .get_api_key(request(caller, proto::GetApiKeyRequest { api_key_id: id }))
            .await
            .map(drop),
        "UpdateApiKey" => {
            let message = proto::UpdateApiKeyRequest {
                api_key: Some(named),
                update_mask: Some(mask),
            };
            client
                .update_api_key(request(caller, message))
                .await
                .map(drop)
        }
        "RotateApiKey" => client
            .rotate_api_key(request(caller, rotate_key(&id, seconds(600))))
            .await
            .map(drop),
        "RevokeApiKey" => {
            let message = proto::RevokeApiKeyRequest {
                api_key_id: id,
                ..Default::default()
            };
            client
                .revoke_api_key(request(caller, message))
                .await
                .map(drop)
        }
        _ => {
            let nobodys = proto::ApiKey {
                user_id: "nobody".to_owned(),
                ..key(&["orders.read"])
            };
            client
                .create_api_key(request(caller, crate::support::create_key(nobodys)))
                .await
                .map(drop)
        }
    }
}

async fn call(server: &Server, caller: Option<&str>, method: &str) -> Result<(), Status> {
    let mut tokens = server.tokens().await;
    let mut revocations = server.revocations().await;
    match method {
        "IntrospectToken" => tokens
            .introspect_token(request(caller, introspect_request("x")))
            .await
            .map(drop),
        "BatchIntrospectTokens" => {
            let message = proto::BatchIntrospectTokensRequest {
                tokens: vec!["x".to_owned()],
                ..Default::default()
            };
            tokens
                .batch_introspect_tokens(request(caller, message))
                .await
                .map(drop)
        }
        "GetCallerIdentity" => tokens
            .get_caller_identity(request(caller, proto::GetCallerIdentityRequest {}))
            .await
            .map(drop),
        "CreateRevocation" => revocations
            .create_revocation(request(caller, revocation("")))
            .await
            .map(drop),
        "ListRevocations" => revocations
            .list_revocations(request(caller, proto::ListRevocationsRequest::default()))
            .await
            .map(drop),
        "WatchRevocations" => {
            let message = proto::WatchRevocationsRequest::default();
            let mut stream = revocations
                .watch_revocations(request(caller, message))
                .await?
                .into_inner();
            stream.message().await.map(drop)
        }
        of_keys => call_keys(server, caller, of_keys).await,
    }
}

/// One letter a method: `o`k, `N`ot found, `P`ermission missing, `-` unauthenticated, `0` without any credential.
async fn outcomes(server: &Server, caller: Option<&str>) -> String {
    let mut outcomes = String::new();
    for method in METHODS {
        let outcome = match call(server, caller, method).await {
            Ok(()) => 'o',
            Err(status) => match (status.code(), &*reason(&status)) {
                (Code::NotFound, "RESOURCE_NOT_FOUND") => 'N',
                (Code::PermissionDenied, "PERMISSION_MISSING") => 'P',
                (Code::Unauthenticated, "CREDENTIALS_INVALID") => '-',
                (Code::Unauthenticated, "CREDENTIALS_MISSING") => '0',
                other => panic!("{method}: {other:?}"),
            },
        };
        outcomes.push(outcome);
    }
    outcomes
}

async fn jwt(server: &Server, username: &str, scopes: &[&str], audiences: &[&str]) -> String {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let request = proto::IssueTokenRequest {
        scopes: texts(scopes),
        audiences: texts(audiences),
        ..password_request(username, PASSWORD, "")
    };
    server.issue(request).await.unwrap().access_token
}

both!(
    x01_each_caller_may_call_what_its_scopes_say,
    async |server| {
        let acme = server.tenant("acme").await;
        for (name, role) in [
            ("watcher", "introspector"),
            ("reader", "auditor"),
            ("nemo", ""),
        ] {
            let user = server.user(&acme.space, name).await;
            if !role.is_empty() {
                server.assign(&acme.space, &user, role).await;
            }
        }
        let boss = &acme.boss_token;
        let open = server.made_key(boss, key(&[])).await.1;
        let judge = server
            .made_key(boss, key(&["authority.tokens.introspect"]))
            .await
            .1;
        let own = server
            .made_key(
                boss,
                key(&["authority.self", "authority.revocations.watch"]),
            )
            .await
            .1;
        let meant = proto::ApiKey {
            audiences: vec!["orders".to_owned()],
            ..key(&["authority.tokens.introspect"])
        };
        let meant = server.made_key(boss, meant).await.1;
        let revoked = server.token_of("boss.acme").await;
        server.revoke(&revoked).await.unwrap();
        let issuer = &*server.authority.issuer;
        let cases = [
            ("no roles", server.token_of("nemo").await, "PPooNNNNNPPP"),
            ("a clerk", acme.alice_token.clone(), "PPooNNNNNPPP"),
            (
                "introspector",
                server.token_of("watcher").await,
                "ooooNNNNNPoo",
            ),
            ("auditor", server.token_of("reader").await, "PPooNNNNNPPP"),
            ("admin", boss.clone(), "ooooNNNNNooo"),
            ("root", acme.root_token.clone(), "ooooNNNNNooo"),
            (
                "narrowed",
                jwt(server, "alice.acme", &["orders.read"], &[]).await,
                "PPoPNNNNNPPP",
            ),
            (
                "narrowed admin",
                jwt(server, "boss.acme", &["authority.revocations.create"], &[]).await,
                "PPoPNNNNNoPP",
            ),
            (
                "for others",
                jwt(server, "boss.acme", &[], &["orders"]).await,
                "------------",
            ),
            (
                "for us too",
                jwt(server, "boss.acme", &[], &["orders", issuer]).await,
                "ooooNNNNNooo",
            ),
            ("key without scope", open.clone(), "PPoPNNNNNPPP"),
            (
                "JWT of it",
                server.exchange(&open).await.access_token,
                "PPoPNNNNNPPP",
            ),
            ("key with a scope", judge.clone(), "oooPNNNNNPPP"),
            (
                "JWT of that",
                server.exchange(&judge).await.access_token,
                "oooPNNNNNPPP",
            ),
            ("key with its own", own, "PPooNNNNNPoo"),
            ("key for others", meant, "------------"),
            ("revoked", revoked, "------------"),
            ("garbage", "garbage".to_owned(), "------------"),
        ];
        for (who, token, expected) in cases {
            assert_eq!(outcomes(server, Some(&token)).await, expected, "{who}");
        }
        assert_eq!(outcomes(server, None).await, "000000000000");
        let short = proto::IssueTokenRequest {
            ttl: Some(seconds(60)),
            ..password_request("boss.acme", PASSWORD, "")
        };
        let expired = server.issue(short).await.unwrap().access_token;
        server.clock.advance(minutes(1));
        assert_eq!(outcomes(server, Some(&expired)).await, "------------");
    }
);

both!(x04_an_admin_finds_no_space_but_its_own, async |server| {
    let acme = server.tenant("acme").await;
    let globex = server.tenant("globex").await;
    let boss = &acme.boss_token;
    let mut revocations = server.revocations().await;
    for space in ["globex", globex.space.as_str(), "system", "nowhere"] {
        let answer = revocations
            .create_revocation(as_caller(boss, revocation(space)))
            .await;
        refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
        let list = proto::ListRevocationsRequest {
            spaces: vec![space.to_owned()],
            ..Default::default()
        };
        refused(
            revocations.list_revocations(as_caller(boss, list)).await,
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
        );
        let watch = proto::WatchRevocationsRequest {
            spaces: vec![space.to_owned()],
            ..Default::default()
        };
        refused(
            revocations.watch_revocations(as_caller(boss, watch)).await,
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
        );
        let list = proto::ListApiKeysRequest {
            space: space.to_owned(),
            ..Default::default()
        };
        refused(
            server.list_keys(boss, list).await,
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
        );
    }
    for space in ["", "acme", acme.space.as_str()] {
        revocations
            .create_revocation(as_caller(boss, revocation(space)))
            .await
            .unwrap();
        revocations
            .create_revocation(as_caller(&acme.root_token, revocation(space)))
            .await
            .unwrap();
    }
});

both!(public_methods_look_at_no_header, async |server| {
    let mut client = server.tokens().await;
    let good = server.admin().await.access_token;
    let sign_in = password_request("admin", &server.admin_password, "");
    client
        .issue_token(as_caller("garbage", sign_in))
        .await
        .unwrap();
    let rotate = crate::support::rotate_request(&good);
    let new = client
        .rotate_token(as_caller("garbage", rotate))
        .await
        .unwrap()
        .into_inner()
        .token
        .unwrap();
    let revoke = proto::RevokeTokenRequest {
        token: new.access_token,
        wait: None,
    };
    let effect = client
        .revoke_token(as_caller(&good, revoke))
        .await
        .unwrap()
        .into_inner()
        .effect;
    assert_eq!(effect.unwrap().effective, Some(true));
});

both!(a_caller_is_told_who_it_is, async |server| {
    let acme = server.tenant("acme").await;
    let signed_in = server.sign_in("alice.acme", PASSWORD, "").await;
    let told = server.who(&signed_in.access_token).await.unwrap();
    assert_eq!(
        (&told.principal, &told.scopes),
        (&signed_in.principal, &signed_in.scopes)
    );
    assert_eq!(told.expire_time, signed_in.expire_time);

    let eternal = proto::CreateApiKeyRequest {
        no_expiry: true,
        ..crate::support::create_key(key(&["orders.read"]))
    };
    let made = server.create_key(&acme.alice_token, eternal).await.unwrap();
    let told = server.who(&made.api_key_token).await.unwrap();
    assert_eq!(
        (told.scopes, told.expire_time),
        (vec!["orders.read".to_owned()], None)
    );
    let principal = told.principal.unwrap();
    assert_eq!(principal.api_key_id, made.api_key.unwrap().api_key_id);
    assert_eq!(principal.user_id, acme.alice.as_str());

    let told = server.who(&acme.boss_token).await.unwrap();
    let scopes = told.scopes;
    assert!(scopes.is_sorted() && scopes.contains(&"authority.users.write".to_owned()));
    assert!(
        !scopes.contains(&"authority.system.read".to_owned()),
        "that is for `system` alone"
    );
    assert!(!scopes.iter().any(|scope| scope.contains('*')));
    let root = server.who(&acme.root_token).await.unwrap();
    assert!(root.scopes.contains(&"authority.system.read".to_owned()));
});
