//! Users and spaces are named by id, username or slug, in any case.

use token_authority::proto::{self, revocation_subject::Subject};
use tonic::Code;

use crate::support::{
    PASSWORD, both, create_key, introspect_request, key, password_request, refused, revocation_of,
};

both!(
    a_name_is_the_same_name_in_any_case_wherever_it_is_given,
    async |server| {
        let tenant = server.tenant("acme").await;
        let boss = &tenant.boss_token;
        server.made_key(&tenant.alice_token, key(&[])).await;
        let id = tenant.alice.to_string();
        let space_id = tenant.space.to_string();
        for (user, space) in [
            ("alice.acme", "acme"),
            ("Alice.Acme", "Acme"),
            ("ALICE.ACME", "ACME"),
            (&id, &space_id),
            (&id.to_uppercase(), &space_id.to_uppercase()),
        ] {
            if !user.to_lowercase().starts_with("usr_") {
                server.sign_in(user, PASSWORD, space).await;
            }
            let exchanged = proto::IssueTokenRequest {
                space: space.to_owned(),
                ..crate::support::exchange_request(&server.made_key(boss, key(&[])).await.1)
            };
            server.issue(exchanged).await.unwrap();
            let made = proto::ApiKey {
                space_id: space.to_owned(),
                user_id: user.to_owned(),
                ..key(&["orders.read"])
            };
            let made = server.create_key(boss, create_key(made)).await.unwrap();
            assert_eq!(made.api_key.unwrap().user_id, id, "{user}");
            let listed = proto::ListApiKeysRequest {
                space: space.to_owned(),
                user: user.to_owned(),
                ..Default::default()
            };
            let listed = server.list_keys(boss, listed).await.unwrap();
            assert!(
                listed.api_keys.iter().all(|key| key.user_id == id) && !listed.api_keys.is_empty()
            );
            let watched = proto::WatchRevocationsRequest {
                spaces: vec![space.to_owned()],
                ..Default::default()
            };
            crate::support::Watching::open(server, boss, watched)
                .await
                .unwrap();
        }
    }
);

both!(
    a_revocation_reaches_whoever_is_named_in_any_case,
    async |server| {
        let tenant = server.tenant("acme").await;
        let root = &tenant.root_token;
        for (user, space) in [("Alice.Acme", "ACME"), ("ALICE.ACME", "*")] {
            let token = server.token_of("alice.acme").await;
            let wanted = revocation_of(Subject::UserId(user.to_owned()), space);
            let mut revocations = server.revocations().await;
            let created = revocations
                .create_revocation(crate::support::as_caller(root, wanted))
                .await
                .unwrap();
            let subject = created.into_inner().event.unwrap().subject.unwrap();
            assert_eq!(
                subject.subject,
                Some(Subject::UserId(tenant.alice.to_string()))
            );
            let told = server
                .judge(root, introspect_request(&token))
                .await
                .unwrap();
            assert_eq!(told.active, Some(false), "{user}");
        }
    }
);

both!(a_name_that_cannot_be_is_not_found, async |server| {
    let tenant = server.tenant("acme").await;
    let root = &tenant.root_token;
    let long = "a".repeat(65);
    for name in ["a\0b", "a b", "*", "\u{212a}im", "' OR 1=1 --", &long] {
        let made = proto::ApiKey {
            user_id: name.to_owned(),
            ..key(&[])
        };
        let made = server.create_key(root, create_key(made)).await;
        refused(made, Code::NotFound, "RESOURCE_NOT_FOUND");
        let listed = proto::ListApiKeysRequest {
            space: name.to_owned(),
            ..Default::default()
        };
        let listed = server.list_keys(root, listed).await;
        refused(listed, Code::NotFound, "RESOURCE_NOT_FOUND");
        let signed_in = server
            .issue(password_request("alice.acme", PASSWORD, name))
            .await;
        refused(signed_in, Code::NotFound, "RESOURCE_NOT_FOUND");
        // Whether a space is there is told to nobody who cannot sign in.
        let stranger = server
            .issue(password_request("alice.acme", "a wrong password", name))
            .await;
        refused(stranger, Code::Unauthenticated, "CREDENTIALS_INVALID");
        // The throttle is another test's.
        server.clock.advance(std::time::Duration::from_secs(10));
    }
});
