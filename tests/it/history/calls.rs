//! Each call as it is made and recorded.

use std::time::Duration;

use prost_types::FieldMask;
use token_authority::{
    clock::{Clock, boottime},
    proto::{
        self, RevocationEffect, api_key_service_client::ApiKeyServiceClient,
        revocation_service_client::RevocationServiceClient, revocation_subject,
        role_service_client::RoleServiceClient, token_service_client::TokenServiceClient,
        user_service_client::UserServiceClient,
    },
};
use tonic::{Code, Request, Response, Status};

use super::{
    record::{
        Effect, Failure, Form, How, Judgement, Revocation, Span, Subject, Token, TokenNumber,
    },
    world::{Held, ROLE, User, World},
};
use crate::support::{
    At, PASSWORD, PATIENCE, as_caller, claims_of, exchange_request, mask, password_request,
    revocation_of, rotate_request,
};

/// A way to end tokens.
#[derive(Debug, Clone)]
pub(super) enum Means {
    /// By possession.
    RevokeToken(Held),
    CreateRevocation(Subject),
    RevokeApiKey(String),
    DisableApiKey(String),
    /// Takes a permission from the role.
    NarrowRole,
    UnassignRole(User),
    ResetPassword(User),
}

/// Where an acknowledged revocation is in the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) cursor: String,
    pub(super) effective: bool,
}

/// Makes a call, and says when it was made.
async fn timed<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> (Span, Result<T, Failure>) {
    let begun = boottime();
    let answer = tokio::time::timeout(PATIENCE, call).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the client left")));
    let ended = boottime();
    let answer = answer.map(Response::into_inner).map_err(Failure::from);
    (Span { begun, ended }, answer)
}

fn timely<T>(mut request: Request<T>) -> Request<T> {
    request.set_timeout(PATIENCE);
    request
}

impl World {
    fn by_admin<T>(&self, message: T) -> Request<T> {
        timely(as_caller(&self.admin, message))
    }

    /// `IssueToken` for a password.
    pub(super) async fn sign_in(&self, at: &At, user: &User, space: usize) -> Option<Held> {
        let space = self.spaces[space].as_str();
        let request = timely(Request::new(password_request(&user.name, PASSWORD, space)));
        let mut client = TokenServiceClient::new(at.channel.clone());
        let (span, answer) = timed(client.issue_token(request)).await;
        self.record().others += 1;
        Some(self.take_jwt(answer.ok()?.token?.access_token, span))
    }

    /// `IssueToken` for an API key.
    pub(super) async fn exchange(&self, at: &At, key: &Held) -> Option<Held> {
        let request = timely(Request::new(exchange_request(&key.text)));
        let mut client = TokenServiceClient::new(at.channel.clone());
        let (span, answer) = timed(client.issue_token(request)).await;
        self.judged(How::Exchanged, at, span, key, &answer);
        Some(self.take_jwt(answer.ok()?.token?.access_token, span))
    }

    /// `RotateToken`, which ends the old one.
    pub(super) async fn rotate(&self, at: &At, old: &Held) -> (Option<Held>, Option<Place>) {
        let request = timely(Request::new(rotate_request(&old.text)));
        let claims = claims_of(&old.text);
        self.tell_revoking();
        let mut client = TokenServiceClient::new(at.channel.clone());
        let (span, answer) = timed(client.rotate_token(request)).await;
        self.judged(How::Rotated, at, span, old, &answer);
        let subject = Subject::Token(claims["jti"].as_str().unwrap().to_owned());
        let effect = answer.as_ref().map(|answer| answer.effect.clone());
        let place = self.revoked(subject, at, span, effect.map_err(Clone::clone));
        let new = answer.ok().and_then(|answer| answer.token);
        (new.map(|new| self.take_jwt(new.access_token, span)), place)
    }

    fn take_jwt(&self, text: String, issued: Span) -> Held {
        let claims = claims_of(&text);
        let word = |claim: &str| claims[claim].as_str().map(str::to_owned);
        let roles = claims["roles"].as_array().into_iter().flatten();
        let form = Form::Jwt {
            id: word("jti").unwrap(),
            session: word("sid").unwrap(),
            rev: claims["rev"].as_u64().unwrap(),
            roles: roles
                .filter_map(|role| role.as_str().map(str::to_owned))
                .collect(),
            api_key: word("api_key_id"),
        };
        let token = Token {
            user: word("sub").unwrap(),
            space: word("space").unwrap(),
            issued,
            astray: is_astray(claims["iat"].as_i64().unwrap()),
            form,
        };
        self.take(text, token)
    }

    /// `CreateApiKey`, in the first space.
    pub(super) async fn make_key(&self, at: &At, user: &User) -> Option<Held> {
        let api_key = proto::ApiKey {
            display_name: "a key".to_owned(),
            space_id: self.spaces[0].to_string(),
            user_id: user.id.to_string(),
            ..Default::default()
        };
        let request = proto::CreateApiKeyRequest {
            api_key: Some(api_key),
            ..Default::default()
        };
        let mut client = ApiKeyServiceClient::new(at.channel.clone());
        let (issued, answer) = timed(client.create_api_key(self.by_admin(request))).await;
        self.record().others += 1;
        let made = answer.ok()?;
        let token = Token {
            user: user.id.to_string(),
            space: self.spaces[0].to_string(),
            issued,
            astray: false,
            form: Form::ApiKey {
                id: made.api_key?.api_key_id,
            },
        };
        Some(self.take(made.api_key_token, token))
    }

    /// `AssignRole` of [`ROLE`], and the permission that [`Means::NarrowRole`] takes.
    pub(super) async fn restore_role(&self, at: &At, user: &User) {
        let mut client = RoleServiceClient::new(at.channel.clone());
        let assignment = Some(self.assignment(user));
        let request = self.by_admin(proto::AssignRoleRequest { assignment });
        let (_, _) = timed(client.assign_role(request)).await;
        let request = self.by_admin(self.role(&["demo.read", "demo.write"]));
        let (_, _) = timed(client.update_role(request)).await;
        self.record().others += 2;
    }

    fn assignment(&self, user: &User) -> proto::RoleAssignment {
        proto::RoleAssignment {
            space_id: self.spaces[0].to_string(),
            user_id: user.id.to_string(),
            role: ROLE.to_owned(),
            create_time: None,
        }
    }

    fn role(&self, permissions: &[&str]) -> proto::UpdateRoleRequest {
        let role = proto::Role {
            space_id: self.spaces[0].to_string(),
            name: ROLE.to_owned(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        proto::UpdateRoleRequest {
            role: Some(role),
            update_mask: mask(&["permissions"]),
        }
    }

    /// `IntrospectToken` of one, `BatchIntrospectTokens` of several; with the cursor of a place, if there is one.
    pub(super) async fn introspect(
        &self,
        at: &At,
        tokens: &[Held],
        after: Option<&Place>,
    ) -> Result<(), Failure> {
        let (bookmark, min_cursor) = after
            .map(|place| (place.position, place.cursor.clone()))
            .unwrap_or_default();
        let mut client = TokenServiceClient::new(at.channel.clone());
        let (how, (span, answer)) = if let [token] = tokens {
            let request = self.by_admin(proto::IntrospectTokenRequest {
                token: token.text.to_string(),
                min_cursor,
                ..Default::default()
            });
            let (span, answer) = timed(client.introspect_token(request)).await;
            let told = answer.map(|answer| answer.introspection.into_iter().collect());
            (How::Introspected, (span, told))
        } else {
            let request = self.by_admin(proto::BatchIntrospectTokensRequest {
                tokens: tokens.iter().map(|token| token.text.to_string()).collect(),
                min_cursor,
                ..Default::default()
            });
            let (span, answer) = timed(client.batch_introspect_tokens(request)).await;
            (
                How::InBatch,
                (span, answer.map(|answer| answer.introspections)),
            )
        };
        let answer = answer.and_then(|told| verdicts(tokens, &told));
        let told = answer.as_ref().map(drop).map_err(Clone::clone);
        self.note(how, at, span, bookmark, answer);
        told
    }

    /// `GetCallerIdentity` with the token itself.
    pub(super) async fn as_caller(&self, at: &At, token: &Held) {
        let request = as_caller(&token.text, proto::GetCallerIdentityRequest {});
        let mut client = TokenServiceClient::new(at.channel.clone());
        let (span, answer) = timed(client.get_caller_identity(timely(request))).await;
        self.judged(How::AsCaller, at, span, token, &answer);
    }

    /// Notes whether a presented token was taken. Who comes second to a rotation, or changes what changes, learns nothing.
    fn judged<T>(&self, how: How, at: &At, span: Span, token: &Held, answer: &Result<T, Failure>) {
        let verdict = match answer {
            Ok(_) => Ok(true),
            Err(failure) if failure.code == Code::Unauthenticated => Ok(false),
            Err(failure) if failure.code == Code::Aborted => return,
            Err(failure) => Err(failure.clone()),
        };
        let answer = verdict.map(|active| vec![(token.number, active)]);
        self.note(how, at, span, 0, answer);
    }

    fn note(
        &self,
        how: How,
        at: &At,
        span: Span,
        bookmark: u64,
        answer: Result<Vec<(TokenNumber, bool)>, Failure>,
    ) {
        let replica = at.name.clone();
        self.record().judgements.push(Judgement {
            how,
            replica,
            span,
            bookmark,
            answer,
        });
    }

    /// Ends tokens, and waits for that unless told not to. None where it is not acknowledged.
    pub(super) async fn revoke(&self, at: &At, means: &Means, wait: bool) -> Option<Place> {
        let subject = self.subject(means);
        self.tell_revoking();
        let wait = (!wait).then(prost_types::Duration::default);
        let (span, effect) = match means {
            Means::RevokeToken(held) => {
                let token = held.text.to_string();
                let request = timely(Request::new(proto::RevokeTokenRequest { token, wait }));
                let mut client = TokenServiceClient::new(at.channel.clone());
                let (span, answer) = timed(client.revoke_token(request)).await;
                (span, answer.map(|answer| answer.effect))
            }
            Means::CreateRevocation(subject) => {
                let request = proto::CreateRevocationRequest {
                    wait,
                    ..self.by_reference(subject)
                };
                let mut client = RevocationServiceClient::new(at.channel.clone());
                let (span, answer) = timed(client.create_revocation(self.by_admin(request))).await;
                (span, answer.map(|answer| answer.effect))
            }
            Means::RevokeApiKey(id) => {
                let request = proto::RevokeApiKeyRequest {
                    api_key_id: id.clone(),
                    wait,
                    ..Default::default()
                };
                let mut client = ApiKeyServiceClient::new(at.channel.clone());
                let (span, answer) = timed(client.revoke_api_key(self.by_admin(request))).await;
                (span, answer.map(|answer| answer.effect))
            }
            Means::DisableApiKey(id) => self.disable(at, id).await,
            Means::NarrowRole | Means::UnassignRole(_) => self.take_role(at, means).await,
            Means::ResetPassword(user) => self.reset_password(at, user).await,
        };
        self.revoked(subject, at, span, effect)
    }

    async fn disable(
        &self,
        at: &At,
        id: &str,
    ) -> (Span, Result<Option<RevocationEffect>, Failure>) {
        let request = proto::UpdateApiKeyRequest {
            api_key: Some(proto::ApiKey {
                api_key_id: id.to_owned(),
                disabled: true,
                ..Default::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["disabled".to_owned()],
            }),
        };
        let mut client = ApiKeyServiceClient::new(at.channel.clone());
        let (span, answer) = timed(client.update_api_key(self.by_admin(request))).await;
        (span, answer.map(|answer| answer.effect))
    }

    async fn take_role(
        &self,
        at: &At,
        means: &Means,
    ) -> (Span, Result<Option<RevocationEffect>, Failure>) {
        let mut client = RoleServiceClient::new(at.channel.clone());
        if let Means::UnassignRole(user) = means {
            let assignment = Some(self.assignment(user));
            let request = self.by_admin(proto::UnassignRoleRequest { assignment });
            let (span, answer) = timed(client.unassign_role(request)).await;
            return (span, answer.map(|answer| answer.effect));
        }
        let request = self.by_admin(self.role(&["demo.read"]));
        let (span, answer) = timed(client.update_role(request)).await;
        (span, answer.map(|answer| answer.effect))
    }

    async fn reset_password(
        &self,
        at: &At,
        user: &User,
    ) -> (Span, Result<Option<RevocationEffect>, Failure>) {
        let request = proto::ResetPasswordRequest {
            user: user.id.to_string(),
            new_password: PASSWORD.to_owned(),
            revoke_api_keys: false,
        };
        let mut client = UserServiceClient::new(at.channel.clone());
        let (span, answer) = timed(client.reset_password(self.by_admin(request))).await;
        (span, answer.map(|answer| answer.effect))
    }

    fn by_reference(&self, subject: &Subject) -> proto::CreateRevocationRequest {
        use revocation_subject::Subject as Named;
        let home = self.spaces[0].as_str();
        match subject {
            Subject::Token(id) => revocation_of(Named::TokenId(id.clone()), home),
            Subject::Session(id) => revocation_of(Named::SessionId(id.clone()), home),
            Subject::ApiKey(id) => revocation_of(Named::ApiKeyId(id.clone()), ""),
            Subject::Role { name, .. } => revocation_of(Named::Role(name.clone()), home),
            Subject::User { id, api_keys, .. } => proto::CreateRevocationRequest {
                keep_api_keys: !api_keys,
                ..revocation_of(Named::UserId(id.clone()), home)
            },
        }
    }

    /// What a means ends.
    fn subject(&self, means: &Means) -> Subject {
        let home = self.spaces[0].to_string();
        let user = |user: &User, spaces| Subject::User {
            id: user.id.to_string(),
            spaces,
            api_keys: false,
        };
        match means {
            Means::RevokeToken(held) => match &self.record().tokens[held.number].form {
                Form::Jwt { session, .. } => Subject::Session(session.clone()),
                Form::ApiKey { id } => Subject::ApiKey(id.clone()),
            },
            Means::CreateRevocation(subject) => subject.clone(),
            Means::RevokeApiKey(id) | Means::DisableApiKey(id) => Subject::ApiKey(id.clone()),
            Means::NarrowRole => Subject::Role {
                space: home,
                name: ROLE.to_owned(),
            },
            Means::UnassignRole(whose) => user(whose, vec![home]),
            Means::ResetPassword(whose) => user(
                whose,
                self.spaces.each_ref().map(ToString::to_string).to_vec(),
            ),
        }
    }

    fn revoked(
        &self,
        subject: Subject,
        at: &At,
        span: Span,
        effect: Result<Option<RevocationEffect>, Failure>,
    ) -> Option<Place> {
        // What was done before is not done again, and has no effect.
        let nothing = || Failure {
            code: Code::Ok,
            reason: "nothing was done".to_owned(),
            instead: String::new(),
        };
        let effect = effect.and_then(|effect| effect.ok_or_else(nothing));
        let effect = effect.and_then(|effect| match effect.effective {
            Some(effective) => Ok((effect, effective)),
            None => Err(broken("whether it is effective was not said")),
        });
        let answer = effect.as_ref().map(|(effect, effective)| Effect {
            position: effect.position,
            effective: *effective,
            acknowledged: Clock::system().now().micros(),
        });
        self.record().revocations.push(Revocation {
            subject,
            replica: at.name.clone(),
            span,
            answer: answer.map_err(Clone::clone),
        });
        let (effect, effective) = effect.ok()?;
        Some(Place {
            position: effect.position,
            effective,
            cursor: effect.cursor,
        })
    }
}

/// Whether a time in seconds is far from the machine's, as nothing is that was told just now by a clock that is right.
fn is_astray(seconds: i64) -> bool {
    const FAR: u64 = 30 * 60;
    seconds.abs_diff(Clock::system().now().seconds()) > FAR
}

/// Of each token whether it is active.
fn verdicts(
    tokens: &[Held],
    told: &[proto::TokenIntrospection],
) -> Result<Vec<(TokenNumber, bool)>, Failure> {
    if told.len() != tokens.len() {
        return Err(broken("not one verdict a token"));
    }
    let verdict = |(token, told): (&Held, &proto::TokenIntrospection)| {
        let active = told
            .active
            .ok_or_else(|| broken("a verdict says nothing"))?;
        Ok((token.number, active))
    };
    tokens.iter().zip(told).map(verdict).collect()
}

/// An answer that breaks the contract.
fn broken(how: &str) -> Failure {
    Failure {
        code: Code::Internal,
        reason: how.to_owned(),
        instead: String::new(),
    }
}

/// Between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
