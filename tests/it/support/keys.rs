//! API keys, and JWTs issued from them: what costs no password's hash.

use token_authority::{
    domain::ids::{SpaceId, UserId},
    proto::{self, revocation_subject::Subject},
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
