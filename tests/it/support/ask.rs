//! Each call as a test makes it: who asks, for what, and what comes of it.

use std::time::Duration;

use token_authority::{
    proto,
    storage::{ConnectionTrait as _, Transaction},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Engine, Server, as_caller, reason};

impl Server {
    /// `IssueToken`.
    pub(crate) async fn issue(
        &self,
        request: proto::IssueTokenRequest,
    ) -> Result<proto::IssuedToken, Status> {
        let answer = self.tokens().await.issue_token(request).await?;
        Ok(answer.into_inner().token.unwrap())
    }

    /// A JWT for an API key.
    pub(crate) async fn exchange(&self, api_key: &str) -> proto::IssuedToken {
        self.issue(exchange_request(api_key)).await.unwrap()
    }

    /// `IntrospectToken`.
    pub(crate) async fn judge(
        &self,
        caller: &str,
        request: proto::IntrospectTokenRequest,
    ) -> Result<proto::TokenIntrospection, Status> {
        let request = as_caller(caller, request);
        let answer = self.tokens().await.introspect_token(request).await?;
        Ok(answer.into_inner().introspection.unwrap())
    }

    /// Whether a token is active, and where it is not, why.
    pub(crate) async fn verdict(
        &self,
        caller: &str,
        token: &str,
    ) -> Result<(), proto::InactiveReason> {
        let told = self.introspect(caller, token).await;
        match told.active {
            Some(true) => Ok(()),
            Some(false) => Err(told.inactive_reason()),
            None => panic!("active is always sent"),
        }
    }

    /// `BatchIntrospectTokens`.
    pub(crate) async fn judge_all(
        &self,
        caller: &str,
        request: proto::BatchIntrospectTokensRequest,
    ) -> Result<Vec<proto::TokenIntrospection>, Status> {
        let request = as_caller(caller, request);
        let answer = self.tokens().await.batch_introspect_tokens(request).await?;
        Ok(answer.into_inner().introspections)
    }

    /// `GetCallerIdentity`.
    pub(crate) async fn who(
        &self,
        caller: &str,
    ) -> Result<proto::GetCallerIdentityResponse, Status> {
        let request = as_caller(caller, proto::GetCallerIdentityRequest {});
        let answer = self.tokens().await.get_caller_identity(request).await?;
        Ok(answer.into_inner())
    }

    /// `RotateToken`.
    pub(crate) async fn rotate(
        &self,
        request: proto::RotateTokenRequest,
    ) -> Result<proto::RotateTokenResponse, Status> {
        let answer = self.tokens().await.rotate_token(request).await?;
        Ok(answer.into_inner())
    }

    /// `RotateToken` at its plainest.
    pub(crate) async fn rotated(&self, access_token: &str) -> Result<proto::IssuedToken, Status> {
        let answer = self.rotate(rotate_request(access_token)).await?;
        Ok(answer.token.unwrap())
    }

    /// `RevokeToken`.
    pub(crate) async fn revoke(&self, token: &str) -> Option<proto::RevocationEffect> {
        let request = proto::RevokeTokenRequest {
            token: token.to_owned(),
            wait: None,
        };
        let answer = self.tokens().await.revoke_token(request).await;
        answer.unwrap().into_inner().effect
    }

    /// `CreateApiKey`.
    pub(crate) async fn create_key(
        &self,
        caller: &str,
        request: proto::CreateApiKeyRequest,
    ) -> Result<proto::CreateApiKeyResponse, Status> {
        let request = as_caller(caller, request);
        let answer = self.api_keys().await.create_api_key(request).await?;
        Ok(answer.into_inner())
    }

    /// The id and the whole of a new key.
    pub(crate) async fn made_key(&self, caller: &str, key: proto::ApiKey) -> (String, String) {
        let made = self.create_key(caller, create_key(key)).await.unwrap();
        (made.api_key.unwrap().api_key_id, made.api_key_token)
    }

    /// `GetApiKey`.
    pub(crate) async fn get_key(&self, caller: &str, id: &str) -> Result<proto::ApiKey, Status> {
        let request = proto::GetApiKeyRequest {
            api_key_id: id.to_owned(),
        };
        let request = as_caller(caller, request);
        let answer = self.api_keys().await.get_api_key(request).await?;
        Ok(answer.into_inner().api_key.unwrap())
    }

    /// `ListApiKeys`.
    pub(crate) async fn list_keys(
        &self,
        caller: &str,
        request: proto::ListApiKeysRequest,
    ) -> Result<proto::ListApiKeysResponse, Status> {
        let request = as_caller(caller, request);
        let answer = self.api_keys().await.list_api_keys(request).await?;
        Ok(answer.into_inner())
    }

    /// `UpdateApiKey`.
    pub(crate) async fn update_key(
        &self,
        caller: &str,
        key: proto::ApiKey,
        paths: &[&str],
    ) -> Result<proto::UpdateApiKeyResponse, Status> {
        let mask = prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        let request = proto::UpdateApiKeyRequest {
            api_key: Some(key),
            update_mask: Some(mask),
        };
        let request = as_caller(caller, request);
        let answer = self.api_keys().await.update_api_key(request).await?;
        Ok(answer.into_inner())
    }

    /// `RotateApiKey`.
    pub(crate) async fn rotate_key(
        &self,
        caller: &str,
        request: proto::RotateApiKeyRequest,
    ) -> Result<proto::RotateApiKeyResponse, Status> {
        let request = as_caller(caller, request);
        let answer = self.api_keys().await.rotate_api_key(request).await?;
        Ok(answer.into_inner())
    }

    /// `RevokeApiKey`.
    pub(crate) async fn revoke_key(
        &self,
        caller: &str,
        id: &str,
    ) -> Result<proto::RevokeApiKeyResponse, Status> {
        let request = proto::RevokeApiKeyRequest {
            api_key_id: id.to_owned(),
            ..Default::default()
        };
        let request = as_caller(caller, request);
        let answer = self.api_keys().await.revoke_api_key(request).await?;
        Ok(answer.into_inner())
    }

    /// A transaction in which nothing may be done for as long as the test likes: PostgreSQL ends others after two seconds.
    pub(crate) async fn begin_and_stay(&self) -> Transaction {
        let transaction = self.authority.db.begin().await.unwrap();
        if self.database.engine() == Engine::Postgres {
            let stay = "SET LOCAL idle_in_transaction_session_timeout = 0";
            transaction.execute_unprepared(stay).await.unwrap();
        }
        transaction
    }

    /// Changes what no method changes yet.
    pub(crate) async fn sql(&self, sql: &str) {
        let transaction: Transaction = self.authority.db.begin().await.unwrap();
        let done = transaction.execute_unprepared(sql).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
        transaction.commit().await.unwrap();
    }
}

/// `IntrospectToken` of a token.
pub(crate) fn introspect_request(token: &str) -> proto::IntrospectTokenRequest {
    proto::IntrospectTokenRequest {
        token: token.to_owned(),
        ..Default::default()
    }
}

/// `IssueToken` by API key.
pub(crate) fn exchange_request(api_key: &str) -> proto::IssueTokenRequest {
    let credential = proto::issue_token_request::Credential::ApiKeyToken(api_key.to_owned());
    proto::IssueTokenRequest {
        credential: Some(credential),
        ..Default::default()
    }
}

/// `RotateToken` without an overlap.
pub(crate) fn rotate_request(access_token: &str) -> proto::RotateTokenRequest {
    proto::RotateTokenRequest {
        access_token: access_token.to_owned(),
        ..Default::default()
    }
}

/// A key with these scopes.
pub(crate) fn key(scopes: &[&str]) -> proto::ApiKey {
    proto::ApiKey {
        display_name: "a key".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    }
}

/// `CreateApiKey` of a key.
pub(crate) fn create_key(key: proto::ApiKey) -> proto::CreateApiKeyRequest {
    proto::CreateApiKeyRequest {
        api_key: Some(key),
        ..Default::default()
    }
}

/// `RotateApiKey` with an overlap.
pub(crate) fn rotate_key(id: &str, overlap: prost_types::Duration) -> proto::RotateApiKeyRequest {
    proto::RotateApiKeyRequest {
        api_key_id: id.to_owned(),
        overlap: Some(overlap),
        ..Default::default()
    }
}

/// A span as messages carry it.
pub(crate) fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// A span to move the clock by.
pub(crate) fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

/// The fields that a failure blames, in its `BadRequest`.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    status
        .get_details_bad_request()
        .map(|told| told.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

/// A word of a failure's `ErrorInfo`.
pub(crate) fn metadata_of(status: &Status, key: &str) -> String {
    let info = status.get_details_error_info().unwrap();
    info.metadata.get(key).cloned().unwrap_or_default()
}

/// Fails unless a call was refused with this code, for this reason.
#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, Status>, code: Code, why: &str) -> Status {
    let Err(status) = answer else {
        panic!("the call should have been refused: {why}");
    };
    assert_eq!((status.code(), &*reason(&status)), (code, why), "{status}");
    status
}
