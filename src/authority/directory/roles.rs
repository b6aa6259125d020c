//! Roles: named sets of permissions in a space, and who has which.

use crate::{
    authority::{Authority, audit},
    domain::{
        ids::{RoleName, SpaceId, UserId},
        permission::PermissionSet,
        revocation::{Decision, Reason, Subject},
    },
    error::Result,
    log::{Effect, WaitUntil},
    storage,
};

/// Makes a role.
pub async fn create(
    authority: &Authority,
    actor: audit::Actor<'_>,
    space: &SpaceId,
    name: &RoleName,
    permissions: &PermissionSet,
) -> Result<()> {
    let now = authority.clock.now();
    let transaction = authority.db.begin().await?;
    storage::roles::insert(&transaction, space, name, permissions, now).await?;
    let done = audit::Done {
        action: "role.create",
        space: Some(space),
        resource: name.as_str(),
        details: &[],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await
}

/// Sets what a role grants. Taking a permission away kills the JWTs that name the role.
pub async fn set_permissions(
    authority: &Authority,
    actor: audit::Actor<'_>,
    space: &SpaceId,
    name: &RoleName,
    (before, after): (&PermissionSet, &PermissionSet),
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let now = authority.clock.now();
    let takes_away = !after.contains_all(before);
    let mut pending = authority.log.pending();
    let transaction = authority.db.begin().await?;
    storage::roles::set_permissions(&transaction, space, name, after, now).await?;
    let subject = Subject::Role(name.clone());
    let decision = if takes_away {
        Decision::revocation(subject, Some(space.clone()), Reason::PrivilegesChanged)
    } else {
        Decision::change(subject, Some(space.clone()))
    };
    pending.append(&transaction, &decision, now).await?;
    let done = audit::Done {
        action: "role.update",
        space: Some(space),
        resource: name.as_str(),
        details: &[],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    Ok(pending.effect(until).await.filter(|_| takes_away))
}

/// Gives a user a role.
pub async fn assign(
    authority: &Authority,
    actor: audit::Actor<'_>,
    space: &SpaceId,
    user: &UserId,
    role: &RoleName,
    until: WaitUntil,
) -> Result<()> {
    let now = authority.clock.now();
    let mut pending = authority.log.pending();
    let transaction = authority.db.begin().await?;
    storage::users::lock_shared(&transaction, user).await?;
    storage::spaces::lock_shared(&transaction, space).await?;
    storage::roles::assign(&transaction, space, user, role, now).await?;
    let decision = Decision::change(Subject::User(user.clone()), Some(space.clone()));
    pending.append(&transaction, &decision, now).await?;
    let done = audit::Done {
        action: "role.assign",
        space: Some(space),
        resource: user.as_str(),
        details: &[("role", role.as_str())],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    pending.effect(until).await;
    Ok(())
}

/// Takes a role from a user, and kills the user's JWTs in that space. None where it did not have it.
pub async fn unassign(
    authority: &Authority,
    actor: audit::Actor<'_>,
    space: &SpaceId,
    user: &UserId,
    role: &RoleName,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let now = authority.clock.now();
    let mut pending = authority.log.pending();
    let transaction = authority.db.begin().await?;
    if !storage::roles::unassign(&transaction, space, user, role).await? {
        return Ok(None);
    }
    let subject = Subject::User(user.clone());
    let decision = Decision::revocation(subject, Some(space.clone()), Reason::PrivilegesChanged);
    pending.append(&transaction, &decision, now).await?;
    let done = audit::Done {
        action: "role.unassign",
        space: Some(space),
        resource: user.as_str(),
        details: &[("role", role.as_str())],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    Ok(pending.effect(until).await)
}
