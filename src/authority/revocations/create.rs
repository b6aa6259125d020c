//! Revokes by reference: one token or session, or everything that a user, an API key, a role, a space or a signing key stands
//! behind.

use crate::{
    authority::{
        Authority, api_keys, audit,
        caller::Caller,
        idempotency::{Answer, Request},
        revocations::shared_commits::Ending,
        signing_keys,
    },
    clock::Timestamp,
    domain::{
        audit::Event,
        ids::{ApiKeyId, EventId, NamedUser, SpaceId, UserId},
        permission,
        revocation::{Decision, Entry, FORGET_AFTER, Position, Reason, Subject},
    },
    error::{Error, Result},
    log::{Effect, Pending, WaitUntil},
    storage::{self, Transaction, revocation_log},
};

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
    if let Subject::ApiKey(id) = &target.subject {
        let (actor, comment) = (audit::Actor::caller(caller), &wanted.comment);
        let (pending, reason) =
            api_keys::revoke::end(authority, id, target.reason, comment, actor, request).await?;
        target.reason = reason;
        return finish(target, pending, until).await;
    }
    if let Subject::SigningKey(id) = &target.subject {
        let (reason, comment) = (target.reason, &wanted.comment);
        let (pending, reason) =
            signing_keys::revoke::end(authority, caller, id, reason, comment, request).await?;
        target.reason = reason;
        return finish(target, pending, until).await;
    }
    if let Subject::Session(_) | Subject::Token(_) = &target.subject {
        let ending = Ending {
            event: event(caller, &target, &wanted.comment, now)?,
            target: target.clone(),
            request,
        };
        let ended = authority.shared_commits.end(ending).await?;
        target.reason = ended.reason;
        return finish(target, ended.pending, until).await;
    }
    let mut pending = authority.log.pending();
    let transaction = authority.db.begin().await?;
    // First, since it is the entry that the answer tells of.
    let event_id = pending.append(&transaction, &target, now).await?;
    if !wanted.keep_api_keys {
        let spared = keys_of_spared(&transaction, &target).await?;
        end_api_keys(&transaction, &target, now).await?;
        for (key, space) in spared {
            let decision = Decision::revocation(Subject::ApiKey(key), Some(space), target.reason);
            pending.append(&transaction, &decision, now).await?;
        }
    }
    if let Some(request) = request {
        let answer = Answer::event(&event_id);
        request.remember(&transaction, answer, now).await?;
    }
    let event = event(caller, &target, &wanted.comment, now)?;
    storage::audit::insert(&transaction, &[&event]).await?;
    transaction.commit().await?;
    finish(target, pending, until).await
}

/// What is revoked, by ids, once it is known that the caller may.
async fn resolve(authority: &Authority, caller: &Caller, wanted: &Wanted) -> Result<Decision> {
    caller.require(permission::REVOCATIONS_CREATE, caller.space_id())?;
    let (subject, space_id) = match (&wanted.subject, &wanted.space) {
        (Subject::User(named), InSpace::Every) => (
            Subject::User(any_user(authority, caller, named).await?),
            None,
        ),
        (_, InSpace::Every) => {
            return Err(Error::field("space", "may be * for a user alone"));
        }
        (Subject::ApiKey(id), InSpace::Named(space)) => {
            let space_id = space_of_key(authority, caller, id, space).await?;
            (wanted.subject.clone(), Some(space_id))
        }
        (Subject::SigningKey(_), InSpace::Named(beside)) => {
            caller.require_in_system(permission::SIGNING_KEYS_WRITE)?;
            if !beside.is_empty() {
                return Err(Error::field("space", "a signing key is of every space"));
            }
            (wanted.subject.clone(), None)
        }
        (Subject::Space(named), InSpace::Named(beside)) => {
            if !beside.is_empty() {
                return Err(Error::field("space", "a space brings its own"));
            }
            let space = caller.space(authority, named.as_str()).await?.id;
            (Subject::Space(space.clone()), Some(space))
        }
        // What is named by nothing but an id costs no look-up where the space is the caller's own.
        (Subject::Session(_) | Subject::Token(_), InSpace::Named(space)) if space.is_empty() => {
            (wanted.subject.clone(), Some(caller.space_id().clone()))
        }
        (subject, InSpace::Named(space)) => {
            let space = caller.space(authority, space).await?.id;
            (
                in_space(authority, caller, subject, &space).await?,
                Some(space),
            )
        }
    };
    Ok(Decision {
        sessions_until: wanted.sessions_until,
        ..Decision::revocation(subject, space_id, wanted.reason)
    })
}

async fn in_space(
    authority: &Authority,
    caller: &Caller,
    subject: &Subject,
    space: &SpaceId,
) -> Result<Subject> {
    match subject {
        Subject::User(named) => {
            let user = caller.user_in(authority, named.as_str(), space).await?;
            Ok(Subject::User(user.user.id))
        }
        Subject::Role(name) => {
            if storage::roles::exists(authority.db.reader(), space, name).await? {
                return Ok(subject.clone());
            }
            Err(Error::not_found("role"))
        }
        // Taken as they are: what the authority never issued is nobody's loss.
        Subject::Token(_) | Subject::Session(_) => Ok(subject.clone()),
        Subject::ApiKey(_)
        | Subject::Space(_)
        | Subject::SigningKey(_)
        | Subject::Everything
        | Subject::Unknown => Err(Error::field("subject", "is not for this method")),
    }
}

/// A user of any space, for who may revoke in every space.
async fn any_user(authority: &Authority, caller: &Caller, named: &UserId) -> Result<UserId> {
    if !caller.in_system() {
        return Err(Error::permission_missing(
            permission::REVOCATIONS_CREATE,
            "system",
        ));
    }
    let named = NamedUser::parse(named.as_str())?;
    storage::standing::standing(authority.db.reader(), &named, None)
        .await?
        .map(|standing| standing.user.id)
        .ok_or_else(|| Error::not_found("user"))
}

async fn space_of_key(
    authority: &Authority,
    caller: &Caller,
    id: &ApiKeyId,
    beside: &str,
) -> Result<SpaceId> {
    if !beside.is_empty() {
        return Err(Error::field("space", "an API key brings its own"));
    }
    let key = storage::api_keys::describe(authority.db.reader(), id)
        .await?
        .ok_or_else(|| Error::not_found("api_key"))?;
    if caller.sees(&key.space_id) {
        return Ok(key.space_id);
    }
    Err(Error::withheld("api_key", key.id.as_str()))
}

/// Ends the API keys behind a user or a space, for good: of one user in one space row by row, else by raising a generation.
async fn end_api_keys(transaction: &Transaction, target: &Decision, now: Timestamp) -> Result<()> {
    match (&target.subject, &target.space_id) {
        (Subject::User(user), Some(space)) => {
            storage::api_keys::end_all(transaction, user, space, now).await
        }
        (Subject::User(user), None) => {
            storage::users::raise_key_generation(transaction, user, now).await
        }
        (Subject::Space(space), _) => {
            storage::spaces::raise_key_generation(transaction, space, now).await
        }
        _ => Ok(()),
    }
}

/// Keys whose JWTs must be ended one by one: what was issued from a key dies with it, also where the session began late enough
/// to be spared.
async fn keys_of_spared(
    transaction: &Transaction,
    target: &Decision,
) -> Result<Vec<(ApiKeyId, SpaceId)>> {
    let space = target.space_id.as_ref();
    match (&target.subject, target.sessions_until) {
        (Subject::User(user), Some(_)) => {
            storage::users::lock_exclusively(transaction, user).await?;
            storage::api_keys::not_ended(transaction, Some(user), space).await
        }
        (Subject::Space(id), Some(_)) => {
            storage::spaces::lock_exclusively(transaction, id).await?;
            storage::api_keys::not_ended(transaction, None, space).await
        }
        _ => Ok(Vec::new()),
    }
}

/// What the audit log is to say.
fn event(caller: &Caller, target: &Decision, comment: &str, now: Timestamp) -> Result<Event> {
    let (kind, id) = target.subject.kind_and_id();
    let done = audit::Done {
        action: "revocation.create",
        space: target.space_id.as_ref(),
        resource: id,
        details: &[("subject", kind), ("comment", comment)],
    };
    audit::event(audit::Actor::caller(caller), done, now)
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
