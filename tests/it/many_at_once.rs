//! What ends for many at once is written in few statements: nobody waits long for it.

use prost_types::Timestamp;
use token_authority::{
    proto::{self, revocation_subject::Subject},
    storage::ConnectionTrait as _,
};

use crate::{
    one_role::users_with,
    support::{Server, as_caller, both, key_request, revocation_of},
};

const MANY: usize = 1_200;

async fn head(server: &Server) -> u64 {
    server.authority.log.catch_up().await.unwrap().position.0
}

both!(
    the_keys_of_a_space_end_in_few_statements_where_sessions_are_spared,
    async |server| {
        let admin = server.admin().await.access_token;
        let acme = server.space("acme").await;
        let ann = server.user(&acme, "ann").await;
        let made = server.api_key(&admin, &acme, &ann, &[]).await;
        let id = made.api_key.unwrap().api_key_id;
        server.copies_of_key(&id, MANY).await;
        let mut tokens = server.tokens().await;
        let request = key_request(&made.api_key_token);
        let issued = tokens.issue_token(request).await.unwrap().into_inner();
        let token = issued.token.unwrap().access_token;
        assert!(server.introspect(&admin, &token).await.active());

        let before = head(server).await;
        let request = proto::CreateRevocationRequest {
            // All sessions are spared.
            sessions_until: Some(Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            ..revocation_of(Subject::SpaceId(acme.to_string()), "")
        };
        let mut revocations = server.revocations().await;
        let revoking = revocations.create_revocation(as_caller(&admin, request));
        let (statements, created) = server.statements_of(revoking).await;
        let effect = created.unwrap().into_inner().effect.unwrap();
        assert_eq!(effect.effective, Some(true));
        eprintln!("{statements} statements for {MANY} keys");
        assert!(statements < MANY as u64 / 10, "{statements} statements");
        assert_eq!(head(server).await, before + 1 + 1 + MANY as u64);
        for token in [&token, &made.api_key_token] {
            assert!(!server.introspect(&admin, token).await.active());
        }
    }
);

both!(
    a_space_whose_users_are_guests_elsewhere_is_deleted_in_few_statements,
    async |server| {
        let operator = server.operator().await;
        let (acme, globex) = (server.space("acme").await, server.space("globex").await);
        for space in [&acme, &globex] {
            server.role(space, "clerk", &["orders.read"]).await;
        }
        users_with(server, acme.as_str(), "clerk", 1, MANY).await;
        let guests = format!(
            "INSERT INTO role_assignments (space_id, user_id, role, create_time)
             SELECT '{globex}', user_id, 'clerk', 1 FROM users WHERE space_id = '{acme}'"
        );
        let transaction = server.authority.db.begin().await.unwrap();
        let made = transaction.execute_unprepared(&guests).await.unwrap();
        assert_eq!(made.rows_affected(), MANY as u64);
        transaction.commit().await.unwrap();
        let before = head(server).await;
        let request = proto::DeleteSpaceRequest {
            space: "acme".to_owned(),
        };
        let mut spaces = operator.spaces();
        let deleting = spaces.delete_space(as_caller(&operator.token, request));
        let (statements, deleted) = server.statements_of(deleting).await;
        let effect = deleted.unwrap().into_inner().effect.unwrap();
        assert_eq!(effect.effective, Some(true));
        eprintln!("{statements} statements for {MANY} guests");
        assert!(statements < MANY as u64 / 10, "{statements} statements");
        assert_eq!(head(server).await, before + MANY as u64 + 1);
    }
);
