//! `TokenService`: issues, introspects, rotates and revokes by possession of the token or of a credential.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

use super::{
    authentication::{call_of, caller_of},
    convert,
};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        credentials::Credential,
        idempotency,
        tokens::{
            introspect::{self, Question, Told},
            issue::{self, Wanted},
            revoke, rotate,
        },
    },
    domain::{
        password::Password,
        permission::{Permission, PermissionSet},
    },
    error::{Error, Reason, Result},
    proto::{self, issue_token_request, token_service_server::TokenService},
};

/// The most that a batch is answered with, in bytes: twice what as many JWTs of the largest size take.
const BATCH_ANSWER_MAX: usize = 2 * 1024 * 1024;

/// The service.
#[derive(Debug, Clone)]
pub struct Tokens(pub Arc<Authority>);

#[async_trait]
impl TokenService for Tokens {
    async fn issue_token(
        &self,
        request: Request<proto::IssueTokenRequest>,
    ) -> Result<Response<proto::IssueTokenResponse>, Status> {
        let call = call_of(request.extensions());
        let mut request = request.into_inner();
        let credential = request
            .credential
            .take()
            .ok_or_else(|| Error::field("credential", "is required"))?;
        let wanted = wanted(request)?;
        let token = match credential {
            issue_token_request::Credential::Password(given) => {
                let password = Password::presented(given.password, "password.password")?;
                issue::for_password(&self.0, &given.username, &password, &wanted, &call).await?
            }
            issue_token_request::Credential::ApiKeyToken(token) => {
                issue::for_api_key(&self.0, &token, &wanted, &call).await?
            }
        };
        Ok(Response::new(proto::IssueTokenResponse {
            token: Some(convert::issued(token)),
        }))
    }

    async fn introspect_token(
        &self,
        request: Request<proto::IntrospectTokenRequest>,
    ) -> Result<Response<proto::IntrospectTokenResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        self.reach(&caller, &request.min_cursor).await?;
        let question = question(
            request.audience,
            &request.required_scopes,
            request.client_address,
        )?;
        // Sampled before the verdict: the verdict reflects at least this.
        let cursor = self.0.log.applied().await?.cursor().to_string();
        let told = introspect::introspect(&self.0, &caller, &request.token, &question).await?;
        Ok(Response::new(proto::IntrospectTokenResponse {
            introspection: Some(self.introspection(told)),
            cursor,
        }))
    }

    async fn batch_introspect_tokens(
        &self,
        request: Request<proto::BatchIntrospectTokensRequest>,
    ) -> Result<Response<proto::BatchIntrospectTokensResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        if request.tokens.is_empty() || request.tokens.len() > convert::BATCH_MAX {
            return Err(Error::field("tokens", "must be 1 to 256").into());
        }
        self.reach(&caller, &request.min_cursor).await?;
        let question = question(
            request.audience,
            &request.required_scopes,
            request.client_address,
        )?;
        let cursor = self.0.log.applied().await?.cursor().to_string();
        let all = introspect::introspect_all(&self.0, &caller, &request.tokens, &question).await?;
        let introspections = self.introspections(all)?;
        Ok(Response::new(proto::BatchIntrospectTokensResponse {
            introspections,
            cursor,
        }))
    }

    async fn rotate_token(
        &self,
        request: Request<proto::RotateTokenRequest>,
    ) -> Result<Response<proto::RotateTokenResponse>, Status> {
        let call = call_of(request.extensions());
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        convert::required(&request.access_token, "access_token")?;
        let overlap = convert::span(
            request.overlap,
            "overlap",
            Duration::ZERO,
            rotate::MAX_OVERLAP,
        )?;
        let overlap = overlap.unwrap_or_default();
        let until = call.wait_until(convert::DEFAULT_WAIT);
        let remembered = |token: &crate::domain::jwt::AccessToken| {
            let owner = token.token_id.as_str();
            idempotency::Request::new(owner, "RotateToken", &key, &request)
        };
        let rotated = rotate::rotate(
            &self.0,
            &request.access_token,
            overlap,
            remembered,
            &call,
            until,
        )
        .await?;
        Ok(Response::new(proto::RotateTokenResponse {
            token: Some(convert::issued(rotated.token)),
            effect: rotated.effect.map(convert::effect),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<proto::RevokeTokenRequest>,
    ) -> Result<Response<proto::RevokeTokenResponse>, Status> {
        let call = call_of(request.extensions());
        let request = request.into_inner();
        let token = convert::required(&request.token, "token")?;
        let until = call.wait_until(convert::wait(request.wait)?);
        let effect = revoke::revoke(&self.0, token, &call, until).await?;
        Ok(Response::new(proto::RevokeTokenResponse {
            effect: effect.map(convert::effect),
        }))
    }

    async fn get_caller_identity(
        &self,
        request: Request<proto::GetCallerIdentityRequest>,
    ) -> Result<Response<proto::GetCallerIdentityResponse>, Status> {
        let caller = caller_of(&request)?;
        Ok(Response::new(proto::GetCallerIdentityResponse {
            principal: Some(convert::principal(&caller.credential)),
            scopes: caller.scopes().to_strings(),
            expire_time: caller.expire_time().map(convert::timestamp),
        }))
    }
}

impl Tokens {
    /// Waits until what the caller has seen is applied here.
    async fn reach(&self, caller: &Caller, min_cursor: &str) -> Result<()> {
        if min_cursor.is_empty() {
            return Ok(());
        }
        // No longer, whatever the call's time: another server may have reached it.
        let patience = Instant::now() + convert::DEFAULT_WAIT;
        let until = caller
            .call
            .answer_by()
            .map_or(patience, |by| by.min(patience));
        self.0.log.reach(min_cursor, until).await
    }

    /// No more than anybody takes: one token may have thousands of scopes, and be named again and again.
    fn introspections(&self, all: Vec<Told>) -> Result<Vec<proto::TokenIntrospection>> {
        let mut size = 0;
        let within = all.into_iter().map(|told| {
            let introspection = self.introspection(told);
            size += introspection.encoded_len();
            if size > BATCH_ANSWER_MAX {
                let message = "the answer would be larger than 2 MiB; ask for fewer at a time";
                return Err(Error::new(Reason::TokenTooLarge, message));
            }
            Ok(introspection)
        });
        within.collect()
    }

    fn introspection(&self, told: Told) -> proto::TokenIntrospection {
        let credential = match told {
            Ok(credential) => credential,
            Err(reason) => {
                return proto::TokenIntrospection {
                    active: Some(false),
                    inactive_reason: reason.into(),
                    ..Default::default()
                };
            }
        };
        let active = proto::TokenIntrospection {
            active: Some(true),
            principal: Some(convert::principal(&credential)),
            scopes: credential.scopes().to_strings(),
            issuer: self.0.issuer.to_string(),
            ..Default::default()
        };
        match &credential {
            Credential::AccessToken(held) => proto::TokenIntrospection {
                kind: proto::TokenKind::AccessToken.into(),
                token_id: held.token.token_id.as_str().to_owned(),
                audiences: held.token.audiences.clone(),
                issue_time: Some(convert::timestamp(held.token.issue_time)),
                expire_time: Some(convert::timestamp(held.token.expire_time)),
                session_id: held.token.session_id.as_str().to_owned(),
                ..active
            },
            Credential::ApiKey(key) => proto::TokenIntrospection {
                kind: proto::TokenKind::ApiKey.into(),
                token_id: key.id.as_str().to_owned(),
                audiences: key.audiences.clone(),
                issue_time: Some(convert::timestamp(key.create_time)),
                expire_time: key.expire_time.map(convert::timestamp),
                ..active
            },
        }
    }
}

fn wanted(request: proto::IssueTokenRequest) -> Result<Wanted> {
    convert::at_most(&request.scopes, "scopes", 256)?;
    Ok(Wanted {
        audiences: convert::audiences(&request.audiences, "audiences")?,
        scopes: PermissionSet::parse(&request.scopes, "scopes")?,
        ttl: convert::span(request.ttl, "ttl", Duration::ZERO, Duration::MAX)?,
        space: request.space,
    })
}

fn question(
    audience: String,
    required_scopes: &[String],
    client_address: String,
) -> Result<Question> {
    convert::at_most(required_scopes, "required_scopes", 256)?;
    // Any text is taken: a scope that no token can have makes every token inactive.
    let required_scopes = required_scopes
        .iter()
        .map(|scope| Permission::known(scope.as_str()))
        .collect();
    Ok(Question {
        audience,
        required_scopes,
        client_address,
    })
}
