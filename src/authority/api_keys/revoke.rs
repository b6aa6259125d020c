//! Ends a key for good, with every secret it has and every JWT that was issued from it.

use super::{Verb, create::described};
use crate::{
    authority::{
        Authority, audit,
        caller::Caller,
        idempotency::{Answer, Request},
    },
    domain::{
        api_key::ApiKey,
        ids::ApiKeyId,
        revocation::{Decision, Reason, Subject},
    },
    error::{Error, Result},
    log::{Effect, Pending, WaitUntil},
    storage::{self, revocation_log},
};

/// Ends the key that a request names. Idempotent: who ends it again waits for the first time.
pub async fn revoke(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    reason: Reason,
    until: WaitUntil,
) -> Result<(ApiKey, Option<Effect>)> {
    let key = super::named(authority, caller, named, Verb::RotateOrRevoke).await?;
    let actor = audit::Actor::caller(caller);
    let (pending, _) = end(authority, &key.id, reason, "", actor, None).await?;
    let key = described(authority, &key.id).await?;
    Ok((key, pending.effect(until).await))
}

/// Ends a key, or joins whoever did; and why it was ended.
pub async fn end(
    authority: &Authority,
    id: &ApiKeyId,
    reason: Reason,
    comment: &str,
    actor: audit::Actor<'_>,
    request: Option<Request>,
) -> Result<(Pending, Reason)> {
    let now = authority.clock.now();
    let mut pending = authority.log.pending();
    let transaction = authority.db.begin().await?;
    let newly_ended = storage::api_keys::end(&transaction, id, now).await?;
    let key = storage::api_keys::describe(&transaction, id)
        .await?
        .ok_or_else(|| Error::not_found("api_key"))?;
    let subject = Subject::ApiKey(id.clone());
    let space = Some(&key.space_id);
    let since = key.revoke_time.unwrap_or(now);
    if !newly_ended
        && let Some(found) = revocation_log::find(&transaction, &subject, space, since).await?
    {
        if let Some(request) = request {
            let answer = Answer::event(&found.event_id);
            request.remember(&transaction, answer, now).await?;
            transaction.commit().await?;
        }
        pending.join(&found);
        return Ok((pending, found.reason));
    }
    let decision = Decision::revocation(subject, space.cloned(), reason);
    let event_id = pending.append(&transaction, &decision, now).await?;
    if let Some(request) = request {
        let answer = Answer::event(&event_id);
        request.remember(&transaction, answer, now).await?;
    }
    let done = audit::Done {
        action: "api_key.revoke",
        space,
        resource: id.as_str(),
        details: &[("comment", comment)],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    Ok((pending, reason))
}
