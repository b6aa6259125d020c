//! What is left of a user that was deleted: nothing.

use token_authority::{
    domain::revocation::{Decision, Reason, Subject},
    proto::InactiveReason,
    storage::ConnectionTrait as _,
};
use tonic::Code;

use crate::support::{
    PASSWORD, both, create_key, exchange_request, key, password_request, refused, soon,
};

both!(
    j22_with_a_user_its_tokens_keys_and_password_are_gone,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (boss, alice) = (&tenant.boss_token, &tenant.alice_token);
        let (_, api_key) = server.made_key(alice, key(&["authority.self"])).await;
        let from_key = server.exchange(&api_key).await.access_token;
        for token in [alice, &api_key, &from_key] {
            server.verdict(boss, token).await.unwrap();
        }

        let mut pending = server.authority.log.pending();
        let transaction = server.authority.db.begin().await.unwrap();
        let deleted = format!(
            "UPDATE users SET delete_time = {} WHERE user_id = '{}'",
            server.clock.now().micros(),
            tenant.alice
        );
        transaction.execute_unprepared(&deleted).await.unwrap();
        let subject = Subject::User(tenant.alice.clone());
        let decision = Decision::revocation(
            subject,
            Some(tenant.space.clone()),
            Reason::PrincipalChanged,
        );
        pending
            .append(&transaction, &decision, server.clock.now())
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        assert!(pending.effect(soon()).await.unwrap().effective);

        for token in [alice, &api_key, &from_key] {
            let verdict = server.verdict(boss, token).await;
            assert_eq!(verdict, Err(InactiveReason::Revoked));
            refused(
                server.who(token).await,
                Code::Unauthenticated,
                "CREDENTIALS_INVALID",
            );
            refused(
                server.rotated(token).await,
                Code::Unauthenticated,
                "CREDENTIALS_INVALID",
            );
        }
        for request in [
            password_request("alice.acme", PASSWORD, ""),
            exchange_request(&api_key),
        ] {
            let issued = server.issue(request).await;
            refused(issued, Code::Unauthenticated, "CREDENTIALS_INVALID");
        }
        for named in [tenant.name("alice"), tenant.alice.to_string()] {
            let wanted = token_authority::proto::ApiKey {
                user_id: named,
                ..key(&[])
            };
            let made = server.create_key(boss, create_key(wanted)).await;
            refused(made, Code::NotFound, "RESOURCE_NOT_FOUND");
        }
    }
);
