//! What is done is written down once, in the transaction that does it.

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use token_authority::proto::{self, RevocationReason, revocation_subject::Subject};
use tonic::Code;

use crate::support::{PASSWORD, Server, as_caller, both, key, refused, revocation_of};

/// The rows of an action: space, resource and details of each.
pub(crate) async fn rows(server: &Server, action: &str) -> Vec<(String, String, Value)> {
    let db = server.authority.db.reader();
    let from = |table| {
        format!(
            "SELECT audit_event_id, space_id, resource_id, CAST(details AS text) AS details FROM {table} WHERE action = $1"
        )
    };
    let (waiting, chained) = (from("audit_inbox"), from("audit_events"));
    let sql = format!("{waiting} UNION ALL {chained} ORDER BY audit_event_id");
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [action.into()]);
    let rows = db.query_all_raw(statement).await.unwrap();
    let text = |row: &sea_orm::QueryResult, column| row.try_get::<String>("", column).unwrap();
    rows.iter()
        .map(|row| {
            let details = serde_json::from_str(&text(row, "details")).unwrap();
            (text(row, "space_id"), text(row, "resource_id"), details)
        })
        .collect()
}

async fn create(
    server: &Server,
    caller: &str,
    request: &proto::CreateRevocationRequest,
) -> Result<proto::RevocationEvent, tonic::Status> {
    let mut revocations = server.revocations().await;
    let request = as_caller(caller, request.clone());
    let created = revocations.create_revocation(request).await?;
    Ok(created.into_inner().event.unwrap())
}

both!(
    an_api_key_revoked_by_reference_keeps_comment_and_answer,
    async |server| {
        let tenant = server.tenant("acme").await;
        let root = &tenant.root_token;
        let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        let request = proto::CreateRevocationRequest {
            reason: RevocationReason::Compromised.into(),
            comment: "seen on a forum".to_owned(),
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            ..revocation_of(Subject::ApiKeyId(id.clone()), "")
        };
        let first = create(server, root, &request).await.unwrap();
        let retry = create(server, root, &request).await.unwrap();
        assert_eq!(first, retry);
        let written = (
            tenant.space.to_string(),
            id.clone(),
            json!({ "comment": "seen on a forum" }),
        );
        assert_eq!(rows(server, "api_key.revoke").await, [written]);

        let other = proto::CreateRevocationRequest {
            comment: "another".to_owned(),
            ..request.clone()
        };
        let reused = create(server, root, &other).await;
        refused(reused, Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED");
    }
);

both!(
    what_was_revoked_before_is_told_with_its_own_reason,
    async |server| {
        let tenant = server.tenant("acme").await;
        let root = &tenant.root_token;
        let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        for subject in [
            Subject::ApiKeyId(id),
            Subject::SessionId("a-session".to_owned()),
            Subject::TokenId("a-token".to_owned()),
        ] {
            let first = proto::CreateRevocationRequest {
                reason: RevocationReason::Compromised.into(),
                ..revocation_of(subject.clone(), "")
            };
            let first = create(server, root, &first).await.unwrap();
            let again = proto::CreateRevocationRequest {
                reason: RevocationReason::Logout.into(),
                ..revocation_of(subject, "")
            };
            let again = create(server, root, &again).await.unwrap();
            assert_eq!(first, again);
        }
        assert_eq!(rows(server, "revocation.create").await.len(), 2);
        assert_eq!(rows(server, "api_key.revoke").await.len(), 1);
    }
);

both!(
    a_key_that_ended_with_its_user_is_revoked_on_record,
    async |server| {
        let tenant = server.tenant("acme").await;
        let root = &tenant.root_token;
        let (id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        let alice = revocation_of(Subject::UserId(tenant.alice.to_string()), "acme");
        create(server, root, &alice).await.unwrap();
        let before = server.authority.log.catch_up().await.unwrap().position.0;
        let by_key = revocation_of(Subject::ApiKeyId(id), "");
        let event = create(server, root, &by_key).await.unwrap();
        assert_eq!(event.position, before + 1);
        assert_eq!(rows(server, "api_key.revoke").await.len(), 1);
    }
);

both!(
    a_change_of_a_user_is_written_down_once_at_home,
    async |server| {
        let tenant = server.tenant("acme").await;
        for slug in ["globex", "initech"] {
            let space = server.space(slug).await;
            server.assign(&space, &tenant.alice, "auditor").await;
        }
        let operator = server.operator().await;
        for disabled in [true, false] {
            operator.set_disabled(&tenant.alice, disabled).await;
        }
        operator.set_password(&tenant.alice, PASSWORD).await;
        for (action, details) in [
            ("user.disable", json!({})),
            ("user.enable", json!({})),
            ("user.reset_password", json!({ "api_keys": "kept" })),
        ] {
            let written = (tenant.space.to_string(), tenant.alice.to_string(), details);
            assert_eq!(rows(server, action).await, [written], "{action}");
        }
    }
);
