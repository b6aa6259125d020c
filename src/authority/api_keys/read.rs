//! Describes keys, one or many; never their secrets.

use super::Verb;
use crate::{
    authority::{
        Authority,
        caller::Caller,
        page::{Page, Wanted},
    },
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, State},
        ids::{SpaceId, UserId},
        permission::{self, PermissionSet},
        standing::Standing,
    },
    error::{Error, Result},
    storage,
};

/// One key. NOT_FOUND where it does not exist or the caller may not know of it.
pub async fn get(authority: &Authority, caller: &Caller, named: &str) -> Result<ApiKey> {
    super::named(authority, caller, named, Verb::Read).await
}

/// What a key may do now: of its scopes, those that its user's roles grant.
pub async fn granted(authority: &Authority, key: &ApiKey) -> Result<PermissionSet> {
    let (user, space) = (key.user_id.named(), key.space_id.named());
    let owner = storage::standing::standing(authority.db.reader(), &user, Some(&space)).await?;
    Ok(owner
        .filter(Standing::acts_here)
        .map(|owner| owner.granted_to_key_within(&key.bounds.roles, &key.bounds.scopes))
        .unwrap_or_default())
}

/// Which keys to list.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Slug or id of the space; empty: the caller's.
    pub space: String,
    /// Id or username; empty: the caller, or everyone for who may see other users' keys.
    pub user: String,
    /// In these states; empty: all but revoked.
    pub states: Vec<State>,
    /// Only keys that expire before.
    pub expire_before: Option<Timestamp>,
    /// Only keys not used since, or never.
    pub unused_since: Option<Timestamp>,
}

/// A page of keys, newest first.
pub async fn list(
    authority: &Authority,
    caller: &Caller,
    filter: Filter,
    wanted: &Wanted,
) -> Result<Page<ApiKey>> {
    let space = caller.space(authority, &filter.space).await?.id;
    let user = user(authority, caller, &filter.user, &space).await?;
    let last = authority.pages.after(wanted)?;
    let states = if filter.states.is_empty() {
        vec![State::Active, State::Disabled, State::Expired]
    } else {
        filter.states
    };
    let which = storage::api_keys::Wanted {
        space,
        user,
        states,
        expire_before: filter.expire_before,
        unused_since: filter.unused_since,
        after: last.as_deref().and_then(place),
        limit: wanted.limit(),
    };
    let (db, now) = (authority.db.reader(), authority.clock.now());
    let keys = storage::api_keys::list(db, &which, now).await?;
    Ok(authority.pages.cut(wanted, keys, |key| {
        format!("{} {}", key.create_time.micros(), key.id)
    }))
}

fn place(last: &str) -> Option<(Timestamp, String)> {
    let (micros, id) = last.split_once(' ')?;
    Some((Timestamp::from_micros(micros.parse().ok()?), id.to_owned()))
}

/// Whose keys. NOT_FOUND for a user whose keys the caller may not see.
async fn user(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    space: &SpaceId,
) -> Result<Option<UserId>> {
    let sees_others = caller.may(permission::API_KEYS_READ, space);
    if named.is_empty() && sees_others {
        return Ok(None);
    }
    let user = caller.user_in(authority, named, space).await?.user.id;
    if sees_others {
        return Ok(Some(user));
    }
    if user != *caller.user_id() {
        return Err(Error::withheld("user", user.as_str()));
    }
    caller.require(permission::SELF, space)?;
    Ok(Some(user))
}
