//! What is to be revoked, as the caller named it; and whether it may.

use super::create::{InSpace, Wanted};
use crate::{
    authority::{Authority, caller::Caller},
    domain::{
        ids::{ApiKeyId, NamedUser, SpaceId, UserId},
        permission,
        revocation::{Decision, Subject},
    },
    error::{Error, Result},
    storage,
};

/// What is revoked, by ids, once it is known that the caller may.
pub(super) async fn resolve(
    authority: &Authority,
    caller: &Caller,
    wanted: &Wanted,
) -> Result<Decision> {
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
        | Subject::Unknown => Err(not_for_this_method()),
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

pub(super) fn not_for_this_method() -> Error {
    Error::field("subject", "is not for this method")
}
