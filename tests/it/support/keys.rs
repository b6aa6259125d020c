//! API keys, and JWTs issued from them: what costs no password's hash.

use token_authority::{
    domain::ids::{ApiKeyId, SpaceId, UserId},
    proto::{self, revocation_subject::Subject},
    storage::ConnectionTrait as _,
};
use tonic::{Response, Status};

use super::{Server, as_caller};

impl Server {
    /// An API key of a user, made by `caller`.
    pub(crate) async fn api_key(
        &self,
        caller: &str,
        space: &SpaceId,
        user: &UserId,
        scopes: &[&str],
    ) -> proto::CreateApiKeyResponse {
        let api_key = proto::ApiKey {
            display_name: "a key".to_owned(),
            space_id: space.to_string(),
            user_id: user.to_string(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            ..Default::default()
        };
        let request = proto::CreateApiKeyRequest {
            api_key: Some(api_key),
            ..Default::default()
        };
        let mut keys = self.api_keys().await;
        keys.create_api_key(as_caller(caller, request))
            .await
            .unwrap()
            .into_inner()
    }

    /// Keys like another one but for their ids, with a secret that nobody has; made without a call for each.
    pub(crate) async fn copies_of_key(&self, id: &str, count: usize) -> Vec<ApiKeyId> {
        let numbers = format!(
            "WITH RECURSIVE numbered (number) AS (SELECT 1 UNION ALL \
             SELECT number + 1 FROM numbered WHERE number < {count})"
        );
        let copied = "space_id, user_id, prefix, display_name, description, roles, scopes, audiences, allowed_cidrs, \
             labels, disabled, expire_time, space_generation, user_generation, current_secret, create_time, update_time";
        let (front, _) = id.split_at(id.len() - 8);
        let made = [
            format!(
                "INSERT INTO api_keys (api_key_id, {copied}) {numbers} SELECT '{front}' || (10000000 + number), {copied} \
                 FROM api_keys CROSS JOIN numbered WHERE api_key_id = '{id}'"
            ),
            format!(
                "INSERT INTO api_key_secrets (api_key_id, secret_number, digest, create_time) {numbers} \
                 SELECT '{front}' || (10000000 + number), 1, digest, create_time \
                 FROM api_key_secrets CROSS JOIN numbered WHERE api_key_id = '{id}'"
            ),
        ];
        let transaction = self.authority.db.begin().await.unwrap();
        for sql in made {
            let done = transaction.execute_unprepared(&sql).await.unwrap();
            assert_eq!(done.rows_affected(), count as u64);
        }
        transaction.commit().await.unwrap();
        let numbers = 1..=count;
        numbers
            .map(|number| ApiKeyId::known(format!("{front}{}", 10_000_000 + number)))
            .collect()
    }

    /// Revokes by reference, and leaves API keys alone.
    pub(crate) async fn revoke_by_reference(
        &self,
        caller: &str,
        subject: Subject,
        space: &str,
    ) -> Result<proto::CreateRevocationResponse, Status> {
        let request = proto::CreateRevocationRequest {
            keep_api_keys: true,
            ..revocation_of(subject, space)
        };
        let mut revocations = self.revocations().await;
        revocations
            .create_revocation(as_caller(caller, request))
            .await
            .map(Response::into_inner)
    }
}

/// A revocation by reference.
pub(crate) fn revocation_of(subject: Subject, space: &str) -> proto::CreateRevocationRequest {
    let subject = proto::RevocationSubject {
        subject: Some(subject),
    };
    proto::CreateRevocationRequest {
        subject: Some(subject),
        space: space.to_owned(),
        ..Default::default()
    }
}

/// An exchange of an API key for a JWT.
pub(crate) fn key_request(api_key_token: &str) -> proto::IssueTokenRequest {
    let token = api_key_token.to_owned();
    proto::IssueTokenRequest {
        credential: Some(proto::issue_token_request::Credential::ApiKeyToken(token)),
        ..Default::default()
    }
}
