//! Exchanges a live JWT for a fresh one of the same session.

use std::{sync::Arc, time::Duration};

use super::{IssuedToken, issue};
use crate::{
    authority::{
        Authority, Call, audit,
        credentials::{Credential, VerifiedToken},
        idempotency::{Answer, Request},
    },
    clock::{Timestamp, boottime},
    domain::{
        api_key::KeyRecord,
        ids::EventId,
        jwt::AccessToken,
        permission::PermissionSet,
        revocation::{Decision, Position, Reason as Why, Subject},
        standing::Standing,
    },
    error::{Error, Reason, Result},
    log::{Effect, Pending, WaitUntil},
    storage::{self, Transaction, rotated_tokens::RotatedToken},
};

/// How long the old token may stay active.
pub const MAX_OVERLAP: Duration = Duration::from_mins(5);

/// The new token, and what became of the old one; nothing yet where it overlaps.
#[derive(Debug)]
pub struct Rotated {
    /// The new token.
    pub token: IssuedToken,
    /// What became of the old one.
    pub effect: Option<Effect>,
}

/// Rotates. UNAUTHENTICATED where the token is not active; ABORTED where it has been rotated already;
/// `FAILED_PRECONDITION/SESSION_TOO_OLD` once the sign-in is older than the space allows.
pub async fn rotate(
    authority: &Authority,
    access_token: &str,
    overlap: Duration,
    request: impl FnOnce(&AccessToken) -> Result<Option<Request>>,
    call: &Call,
    until: WaitUntil,
) -> Result<Rotated> {
    let rev = authority.log.head().await?;
    let now = authority.clock.now();
    let Ok(held) = authority.authenticate_jwt(access_token, now).await? else {
        return Err(Error::credentials_invalid());
    };
    let request = request(&held.token)?;
    let judged = alive_but_for_rotation(authority, &held, now).await?;
    if storage::rotated_tokens::find(authority.db.reader(), &held.token.token_id)
        .await?
        .is_some()
    {
        return answer_again(authority, request, &held, until).await;
    }
    // Not rotated, yet dead as such: somebody revoked just this token.
    if authority.judge(access_token, now).await?.is_err() {
        return Err(Error::credentials_invalid());
    }
    let rotation = Rotation {
        held,
        rev: rev.min(judged),
        judged,
        overlap,
        now,
    };
    let (token, pending) = rotation
        .carry_out(authority, request.as_ref(), call)
        .await?;
    let effect = pending.effect(until).await.filter(|_| overlap.is_zero());
    Ok(Rotated { token, effect })
}

/// The place by which the token is good, were it not for its own rotation.
async fn alive_but_for_rotation(
    authority: &Authority,
    held: &VerifiedToken,
    now: Timestamp,
) -> Result<Position> {
    let applied = authority.log.applied().await?;
    if applied
        .revocations()
        .kills(&held.token, &held.targets.without_token(), now)
    {
        return Err(Error::credentials_invalid());
    }
    Ok(applied.position())
}

struct Rotation {
    held: Arc<VerifiedToken>,
    rev: Position,
    judged: Position,
    overlap: Duration,
    now: Timestamp,
}

impl Rotation {
    async fn carry_out(
        &self,
        authority: &Authority,
        request: Option<&Request>,
        call: &Call,
    ) -> Result<(IssuedToken, Pending)> {
        let old = &self.held.token;
        let mut pending = authority.log.pending();
        let transaction = authority.db.begin().await?;
        storage::spaces::lock_shared(&transaction, &old.space_id).await?;
        storage::users::lock_shared(&transaction, &old.subject).await?;
        // First, so that of two who rotate at once the second is told that it was the second.
        let event_id = EventId::new(self.now)?;
        self.claim(&transaction, &event_id).await?;
        let credential = Credential::AccessToken(Arc::clone(&self.held));
        credential
            .judge_again(authority, &transaction, self.judged)
            .await?;

        let token = issue::sign(authority, self.successor(authority, &transaction).await?)?;
        pending
            .append_as(&transaction, &event_id, &self.decision(), self.now)
            .await?;
        if let Some(request) = request {
            let answer = Answer {
                made: made(&token, &event_id)?,
                seed: None,
            };
            request.remember(&transaction, answer, self.now).await?;
        }
        let actor = audit::Actor {
            user: Some(&old.subject),
            api_key: old.api_key_id.as_ref(),
            call: Some(call),
        };
        let done = audit::Done {
            action: "token.rotate",
            space: Some(&old.space_id),
            resource: old.token_id.as_str(),
            details: &[("new_token_id", token.claims.token_id.as_str())],
        };
        audit::record(&transaction, actor, done, self.now).await?;
        transaction.commit().await?;
        Ok((token, pending))
    }

    /// What the new token says: the user's roles, and the key behind it, as this transaction sees them.
    async fn successor(
        &self,
        authority: &Authority,
        transaction: &Transaction,
    ) -> Result<AccessToken> {
        let old = &self.held.token;
        let (standing, granted, key) = self.granted_now(transaction).await?;
        let session_end = old.auth_time + standing.space.max_session_age;
        if self.now >= session_end {
            return Err(Error::new(
                Reason::SessionTooOld,
                "the sign-in behind the session is too old",
            ));
        }
        let life = old
            .expire_time
            .since(old.issue_time)
            .min(standing.space.max_token_ttl);
        let issue_time = self.now.to_the_second();
        let scopes = if old.narrowed {
            old.scopes.intersection(&granted)
        } else {
            granted
        };
        let key_id = old.api_key_id.as_ref();
        let claims = AccessToken {
            audiences: old.audiences.clone(),
            scopes,
            narrowed: old.narrowed,
            session_id: old.session_id.clone(),
            auth_time: old.auth_time,
            ..issue::describe(authority, &standing, key_id, issue_time, life, self.rev)?
        };
        let mut claims = issue::end_with_key(claims, key.as_ref());
        claims.expire_time = claims.expire_time.min(session_end.to_the_second());
        Ok(claims)
    }

    async fn granted_now(
        &self,
        transaction: &Transaction,
    ) -> Result<(Standing, PermissionSet, Option<KeyRecord>)> {
        let old = &self.held.token;
        if let Some(id) = &old.api_key_id {
            let stored = storage::api_keys::load(transaction, id).await?;
            let key = stored
                .map(|stored| KeyRecord::new(stored, self.rev, boottime()))
                .filter(|key| key.check_state(self.now).is_ok())
                .ok_or_else(Error::credentials_invalid)?;
            return Ok((key.standing.clone(), key.granted.clone(), Some(key)));
        }
        let (user, space) = (old.subject.named(), old.space_id.named());
        let standing = storage::standing::standing(transaction, &user, Some(&space))
            .await?
            .filter(|standing| standing.acts_here() && !standing.user.disabled)
            .ok_or_else(Error::credentials_invalid)?;
        let granted = standing.granted();
        Ok((standing, granted, None))
    }

    fn decision(&self) -> Decision {
        let old = &self.held.token;
        let subject = Subject::Token(old.token_id.clone());
        Decision {
            effective_time: (!self.overlap.is_zero()).then(|| self.now + self.overlap),
            ..Decision::revocation(subject, Some(old.space_id.clone()), Why::Superseded)
        }
    }

    async fn claim(&self, transaction: &Transaction, event_id: &EventId) -> Result<()> {
        let old = &self.held.token;
        let rotated = RotatedToken {
            token_id: old.token_id.clone(),
            session_id: old.session_id.clone(),
            event_id: event_id.clone(),
            rotate_time: self.now,
            effective_time: self.now + self.overlap,
        };
        storage::rotated_tokens::insert(transaction, &rotated).await
    }
}

fn made(token: &IssuedToken, event_id: &EventId) -> Result<serde_json::Value> {
    let claims = token.claims.to_claims_json()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims)
        .map_err(|error| Error::internal("claims are not JSON").because(error))?;
    Ok(serde_json::json!({ "claims": claims, "event_id": event_id }))
}

/// A token that was rotated already: the same answer for the retry, ABORTED for anybody else.
async fn answer_again(
    authority: &Authority,
    request: Option<Request>,
    held: &VerifiedToken,
    until: WaitUntil,
) -> Result<Rotated> {
    let aborted = || {
        Error::new(
            Reason::ConcurrentModification,
            "the token has been rotated already",
        )
    };
    let request = request.ok_or_else(aborted)?;
    let db = authority.db.reader();
    let answer = request
        .find(db, authority.clock.now())
        .await?
        .ok_or_else(aborted)?;
    let broken = || Error::internal("a remembered answer cannot be read");
    let claims =
        serde_json::to_vec(&answer.made["claims"]).map_err(|error| broken().because(error))?;
    let claims = AccessToken::from_claims_json(&claims, &held.token.signing_key_id)
        .map_err(|error| broken().because(error))?;
    let token = issue::sign(authority, claims)?;

    let mut pending = authority.log.pending();
    let event_id = EventId::known(answer.made["event_id"].as_str().ok_or_else(broken)?);
    if let Some(found) = storage::revocation_log::find_event(db, &event_id).await? {
        pending.join(&found);
    }
    let rotated = storage::rotated_tokens::find(db, &held.token.token_id).await?;
    let overlaps = rotated.is_some_and(|rotated| rotated.effective_time > rotated.rotate_time);
    let effect = pending.effect(until).await.filter(|_| !overlaps);
    Ok(Rotated { token, effect })
}
