//! Nobody makes or keeps alive a key that may do what they may not.

use std::sync::Arc;

use crate::{
    authority::{Authority, caller::Caller, credentials::Credential, directory::require_over},
    clock::Timestamp,
    domain::{
        api_key::{Bounds, KeyRecord},
        ids::RoleName,
        permission::exceeds_grant,
        standing::Standing,
    },
    error::{Error, Result},
};

/// EXCEEDS_GRANT where a key of `owner` within `bounds` would reach beyond the caller's credential.
pub async fn require_within(
    authority: &Authority,
    caller: &Caller,
    owner: &Standing,
    bounds: &Bounds,
) -> Result<()> {
    let space = &owner.space.id;
    for role in &bounds.roles {
        require_role(caller, owner, role)?;
    }
    if bounds.scopes.is_empty() {
        if caller.is_narrowed() {
            return Err(exceeds_grant(
                "a key without scopes, by a narrowed credential",
            ));
        }
        let reach = owner.granted_to_key_within(&bounds.roles, &bounds.scopes);
        caller.require_holding(&reach, space)?;
    } else {
        caller.require_holding(&bounds.scopes, space)?;
    }
    if owner.user.id != *caller.user_id() {
        // Nobody holds keys for a user who may do, in any space, what they may not.
        require_over(authority.db.reader(), caller, &owner.user.id).await?;
    }
    if let Some(own) = own_key(authority, caller).await? {
        require_within_key(&own, bounds)?;
    }
    Ok(())
}

/// A role that the key names must be its user's, and one that the caller has or holds all of.
fn require_role(caller: &Caller, owner: &Standing, role: &RoleName) -> Result<()> {
    let grants = owner
        .roles
        .get(role)
        .ok_or_else(|| exceeds_grant(role.as_str()))?;
    if caller.roles().contains(role) || caller.holds(grants, &owner.space.id) {
        return Ok(());
    }
    Err(exceeds_grant(role.as_str()))
}

/// The API key that the caller came by, or that its JWT was issued from.
async fn own_key(authority: &Authority, caller: &Caller) -> Result<Option<Arc<KeyRecord>>> {
    match (&caller.credential, caller.api_key_id()) {
        (Credential::ApiKey(key), _) => Ok(Some(Arc::clone(key))),
        (Credential::AccessToken(_), Some(id)) => {
            let (record, _) = authority
                .key_record(id)
                .await?
                .ok_or_else(Error::credentials_invalid)?;
            Ok(Some(record))
        }
        (Credential::AccessToken(_), None) => Ok(None),
    }
}

fn require_within_key(own: &KeyRecord, bounds: &Bounds) -> Result<()> {
    let audiences = own.audiences.is_empty()
        || (!bounds.audiences.is_empty()
            && bounds
                .audiences
                .iter()
                .all(|audience| own.audiences.contains(audience)));
    let networks = own.allowed_cidrs.is_empty()
        || (!bounds.allowed_cidrs.is_empty()
            && bounds
                .allowed_cidrs
                .iter()
                .all(|network| own.allowed_cidrs.iter().any(|held| held.contains(network))));
    let life = own
        .expire_time
        .is_none_or(|end| bounds.expire_time.is_some_and(|expiry| expiry <= end));
    match (audiences, networks, life) {
        (true, true, true) => Ok(()),
        (false, _, _) => Err(exceeds_grant("audiences beyond the caller's own key")),
        (_, false, _) => Err(exceeds_grant("networks beyond the caller's own key")),
        (_, _, false) => Err(exceeds_grant("a life beyond the caller's own key")),
    }
}

/// When the caller's own key ends: a new one that names no expiry ends no later.
pub async fn own_end(authority: &Authority, caller: &Caller) -> Result<Option<Timestamp>> {
    Ok(own_key(authority, caller)
        .await?
        .and_then(|own| own.expire_time))
}
