//! Changes a key. What takes something away kills the JWTs that were issued from it; what adds something must be the caller's
//! to give.

use std::collections::BTreeMap;

use super::{Verb, create, reach, require_not_revoked};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks, replace},
    },
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, Bounds},
        ids::RoleName,
        permission::{Permission, PermissionSet},
        revocation::{Reason, Subject},
        standing::Standing,
    },
    error::{Error, Result},
    log::{Effect, WaitUntil},
    storage,
};

/// What to change; none: leave it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// For people.
    pub display_name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Act with these roles alone.
    pub roles: Option<Vec<RoleName>>,
    /// Allow these scopes alone.
    pub scopes: Option<PermissionSet>,
    /// Good for these audiences alone.
    pub audiences: Option<Vec<String>>,
    /// Good from these networks alone.
    pub allowed_cidrs: Option<Vec<ipnet::IpNet>>,
    /// When it stops being good; the inner none: never.
    pub expire_time: Option<Option<Timestamp>>,
    /// Whether it is switched off.
    pub disabled: Option<bool>,
    /// The owner's own.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Changes a key. `FAILED_PRECONDITION/API_KEY_NOT_ACTIVE` where it was ended for good.
pub async fn update(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    changes: Changes,
    until: WaitUntil,
) -> Result<(ApiKey, Option<Effect>)> {
    let before = super::named(authority, caller, named, Verb::Update).await?;
    require_not_revoked(&before)?;
    let now = authority.clock.now();
    let after = changed(before.clone(), changes, now);
    let owner = owner(authority, &before).await?;
    if before.bounds.expire_time != after.bounds.expire_time {
        let longest = owner
            .space
            .max_api_key_ttl
            .map(|ttl| before.create_time + ttl);
        create::check_expiry(after.bounds.expire_time, longest, now)?;
    }
    if adds(&before, &after) {
        reach::require_within(authority, caller, &owner, &after.bounds).await?;
    }
    let takes_away = takes_away(&before, &after);
    let mut change = Change::begin(authority, Some(caller), Locks::default()).await?;
    storage::api_keys::update(&change.transaction, &before, &after).await?;
    let (subject, space) = (Subject::ApiKey(before.id.clone()), &before.space_id);
    if takes_away {
        change
            .kill(subject, space, Reason::PrivilegesChanged)
            .await?;
    } else if before.bounds != after.bounds || before.disabled != after.disabled {
        change.touch(subject, space).await?;
    }
    change
        .audit("api_key.update", space, before.id.as_str(), &[])
        .await?;
    let effect = change.commit(until).await?;
    Ok((create::described(authority, &before.id).await?, effect))
}

/// The user whom the key speaks for. One that no longer acts in the space leaves nothing to change.
pub(super) async fn owner(authority: &Authority, key: &ApiKey) -> Result<Standing> {
    let (user, space) = (key.user_id.named(), key.space_id.named());
    storage::standing::standing(authority.db.reader(), &user, Some(&space))
        .await?
        .ok_or_else(|| Error::not_found("api_key"))
}

fn changed(mut key: ApiKey, changes: Changes, now: Timestamp) -> ApiKey {
    let bounds = &mut key.bounds;
    replace(&mut key.display_name, changes.display_name);
    replace(&mut key.description, changes.description);
    replace(&mut bounds.roles, changes.roles);
    replace(&mut bounds.scopes, changes.scopes);
    replace(&mut bounds.audiences, changes.audiences);
    replace(&mut bounds.allowed_cidrs, changes.allowed_cidrs);
    replace(&mut bounds.expire_time, changes.expire_time);
    replace(&mut key.disabled, changes.disabled);
    replace(&mut key.labels, changes.labels);
    key.update_time = now;
    key
}

/// Whether something that the key could do it cannot do any more.
fn takes_away(before: &ApiKey, after: &ApiKey) -> bool {
    (after.disabled && !before.disabled) || !is_within(&before.bounds, &after.bounds)
}

/// Whether the key can do something that it could not do.
fn adds(before: &ApiKey, after: &ApiKey) -> bool {
    (before.disabled && !after.disabled) || !is_within(&after.bounds, &before.bounds)
}

/// Whether everything within `inner` is within `outer`, where an empty list means all.
fn is_within(inner: &Bounds, outer: &Bounds) -> bool {
    list_within(&inner.roles, &outer.roles)
        && (outer.scopes.is_empty()
            || (!inner.scopes.is_empty() && outer.scopes.contains_all(&inner.scopes)))
        // A key that names no scopes has none of this service's own: naming one adds it.
        && (!outer.scopes.is_empty() || !inner.scopes.iter().any(Permission::is_authority))
        && list_within(&inner.audiences, &outer.audiences)
        && list_within(&inner.allowed_cidrs, &outer.allowed_cidrs)
        && outer
            .expire_time
            .is_none_or(|end| inner.expire_time.is_some_and(|expiry| expiry <= end))
}

fn list_within<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|item| outer.contains(item)))
}
