//! Withdraws a key at once, and kills every JWT with its `kid`: for a private key that may have leaked.

use super::ceremony::Ceremony;
use crate::{
    authority::{
        Authority,
        caller::Caller,
        idempotency::{Answer, Request},
    },
    domain::{
        ids::SigningKeyId,
        permission,
        revocation::{Reason, Subject},
        signing_key::{SigningKeyDescription, State},
    },
    error::{Error, Result},
    log::{Effect, Pending, WaitUntil},
    storage::{revocation_log, signing_keys},
};

/// Revokes the key that a request names. Idempotent: who revokes it again waits for the first time.
pub async fn revoke(
    authority: &Authority,
    caller: &Caller,
    id: &SigningKeyId,
    until: WaitUntil,
) -> Result<(SigningKeyDescription, Option<Effect>)> {
    let (pending, _) = end(authority, caller, id, Reason::Administrative, "", None).await?;
    let effect = pending.effect(until).await;
    let key = signing_keys::find(authority.db.reader(), id).await?;
    let key = key.ok_or_else(|| Error::not_found("signing_key"))?;
    Ok((key, effect))
}

/// Revokes a key, or joins whoever did; and why it was revoked. `FAILED_PRECONDITION/SIGNING_KEY_STATE` for a retired one, of
/// which no token can be alive.
pub async fn end(
    authority: &Authority,
    caller: &Caller,
    id: &SigningKeyId,
    reason: Reason,
    comment: &str,
    request: Option<Request>,
) -> Result<(Pending, Reason)> {
    caller.require_in_system(permission::SIGNING_KEYS_WRITE)?;
    let mut ceremony = Ceremony::begin(authority, Some(caller)).await?;
    let key = ceremony.find(id).await?;
    if key.life.state == State::Revoked {
        return join(ceremony, &key).await;
    }
    let event_id = ceremony.revoke(&key, reason, comment).await?;
    ceremony.keep_one_prepared().await?;
    if let Some(request) = request {
        let answer = Answer::event(&event_id);
        let (transaction, now) = (&ceremony.change.transaction, ceremony.now());
        request.remember(transaction, answer, now).await?;
    }
    Ok((ceremony.change.commit_only().await?, reason))
}

/// Waits with whoever revoked it. What was forgotten since, long after its last token, is told once more.
async fn join(
    mut ceremony: Ceremony<'_>,
    key: &SigningKeyDescription,
) -> Result<(Pending, Reason)> {
    let subject = Subject::SigningKey(key.id.clone());
    let since = key.life.remove_time.unwrap_or_default();
    let transaction = &ceremony.change.transaction;
    let found = revocation_log::find(transaction, &subject, None, since).await?;
    let reason = if let Some(found) = found {
        ceremony.change.join(&found);
        found.reason
    } else {
        let reason = Reason::Administrative;
        ceremony.change.kill_everywhere(subject, reason).await?;
        reason
    };
    Ok((ceremony.change.commit_only().await?, reason))
}
