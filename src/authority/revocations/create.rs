//! Revokes by reference: one token or session, or everything that a user, an API key, a role, a space or a signing key stands
//! behind.

use super::{
    cutoff,
    shared_commits::Ending,
    target::{not_for_this_method, resolve},
};
use crate::{
    authority::{
        Authority, api_keys, audit,
        caller::Caller,
        idempotency::{Answer, Request},
        signing_keys,
    },
    clock::Timestamp,
    domain::{
        ids::EventId,
        revocation::{Decision, Entry, FORGET_AFTER, Position, Reason, Subject},
    },
    error::{Error, Result},
    log::{Effect, Pending, WaitUntil},
    storage::revocation_log,
};

/// What the audit log calls it, whatever is revoked but for keys.
pub(super) const ACTION: &str = "revocation.create";

/// Of which spaces' JWTs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InSpace {
    /// Slug or id; empty: the caller's.
    Named(String),
    /// Of every space.
    Every,
}

/// What a caller wants revoked, as it named it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The subject; its id may be a username or a slug.
    pub subject: Subject,
    /// Only JWTs of this space.
    pub space: InSpace,
    /// Spare sessions that began after this moment.
    pub sessions_until: Option<Timestamp>,
    /// Leave the API keys of a user or a space as they are.
    pub keep_api_keys: bool,
    /// Why.
    pub reason: Reason,
    /// For the audit log.
    pub comment: String,
}

/// The entry, as far as it is known when the call returns, and how far it has reached.
#[derive(Debug)]
pub struct Created {
    /// The new entry, or the one that had revoked the same before.
    pub entry: Entry,
    /// How far it has reached.
    pub effect: Option<Effect>,
}

/// Revokes. NOT_FOUND for a subject that the caller may not see.
pub async fn create(
    authority: &Authority,
    caller: &Caller,
    wanted: Wanted,
    request: Option<Request>,
    until: WaitUntil,
) -> Result<Created> {
    let mut target = resolve(authority, caller, &wanted).await?;
    let now = authority.clock.now();
    if let Some(request) = &request
        && let Some(answer) = request.find(authority.db.reader(), now).await?
    {
        return answer_again(authority, target, &answer, until).await;
    }
    let (actor, comment) = (audit::Actor::caller(caller), &wanted.comment);
    let (pending, reason) = match &target.subject {
        Subject::ApiKey(id) => {
            api_keys::revoke::end(authority, id, target.reason, comment, actor, request).await?
        }
        Subject::SigningKey(id) => {
            signing_keys::revoke::end(authority, caller, id, target.reason, comment, request)
                .await?
        }
        Subject::Session(_) | Subject::Token(_) => {
            end_with_others(authority, actor, &target, comment, request).await?
        }
        Subject::User(_) | Subject::Role(_) | Subject::Space(_) => {
            let keys_end = !wanted.keep_api_keys;
            let pending =
                cutoff::cut_off(authority, caller, &target, keys_end, comment, request).await?;
            (pending, target.reason)
        }
        Subject::Everything | Subject::Unknown => return Err(not_for_this_method()),
    };
    target.reason = reason;
    finish(target, pending, until).await
}

/// Ends a session or a token, in a commit with others, or joins whoever did; and why it was ended.
async fn end_with_others(
    authority: &Authority,
    actor: audit::Actor<'_>,
    target: &Decision,
    comment: &str,
    request: Option<Request>,
) -> Result<(Pending, Reason)> {
    let (kind, id) = target.subject.kind_and_id();
    let done = audit::Done {
        action: ACTION,
        space: target.space_id.as_ref(),
        resource: id,
        details: &[("subject", kind), ("comment", comment)],
    };
    let ending = Ending {
        event: audit::event(actor, done, authority.clock.now())?,
        target: target.clone(),
        request,
    };
    let ended = authority.shared_commits.end(ending).await?;
    Ok((ended.pending, ended.reason))
}

async fn answer_again(
    authority: &Authority,
    mut target: Decision,
    answer: &Answer,
    until: WaitUntil,
) -> Result<Created> {
    let event_id = EventId::known(answer.made["event_id"].as_str().unwrap_or_default());
    let mut pending = authority.log.pending();
    if let Some(found) = revocation_log::find_event(authority.db.reader(), &event_id).await? {
        pending.join(&found);
        target.reason = found.reason;
    }
    finish(target, pending, until).await
}

async fn finish(target: Decision, pending: Pending, until: WaitUntil) -> Result<Created> {
    let (event_id, create_time) = pending
        .first()
        .ok_or_else(|| Error::not_found("revocation"))?;
    let effect = pending.effect(until).await;
    let position = effect
        .as_ref()
        .and_then(|effect| effect.first_position)
        .unwrap_or(Position(0));
    let forget_time = create_time + FORGET_AFTER;
    Ok(Created {
        entry: Entry {
            event_id,
            position,
            decision: target,
            create_time,
            forget_time,
        },
        effect,
    })
}
