//! Describes keys, one or many; never their secrets.

use super::Verb;
use crate::{
    authority::{Authority, caller::Caller, page::Listing},
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, State},
        ids::{SpaceId, UserId},
        permission,
    },
    error::{Error, Result},
    storage::{self, api_keys::Wanted},
};

/// One key. NOT_FOUND where it does not exist or the caller may not know of it.
pub async fn get(authority: &Authority, caller: &Caller, named: &str) -> Result<ApiKey> {
    super::named(authority, caller, named, Verb::Read).await
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

/// A page of keys, newest first, and the token of the next one.
pub async fn list(
    authority: &Authority,
    caller: &Caller,
    filter: Filter,
    page_size: usize,
    page_token: &str,
    listing: &Listing,
) -> Result<(Vec<ApiKey>, String)> {
    let space = caller.space(authority, &filter.space).await?.id;
    let user = user(authority, caller, &filter.user, &space).await?;
    let last = authority.pages.open(listing, page_token)?;
    let states = if filter.states.is_empty() {
        vec![State::Active, State::Disabled, State::Expired]
    } else {
        filter.states
    };
    let wanted = Wanted {
        space,
        user,
        states,
        expire_before: filter.expire_before,
        unused_since: filter.unused_since,
        after: last.as_deref().and_then(place),
        limit: page_size as u64 + 1,
    };
    let mut keys =
        storage::api_keys::list(authority.db.reader(), &wanted, authority.clock.now()).await?;
    if keys.len() <= page_size {
        return Ok((keys, String::new()));
    }
    keys.truncate(page_size);
    let last = keys
        .last()
        .map(|key| format!("{} {}", key.create_time.micros(), key.id));
    let next = last
        .map(|last| authority.pages.seal(listing, &last))
        .unwrap_or_default();
    Ok((keys, next))
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
