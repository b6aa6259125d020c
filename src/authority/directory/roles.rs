//! Roles: named sets of permissions in a space, and who has which.

use super::{admin, require_admin_left};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks},
        page::{Page, Wanted},
    },
    domain::{
        directory::{Role, RoleAssignment},
        ids::{NamedUser, RoleName, SpaceId, UserId},
        permission::{self, BuiltInRole, PermissionSet},
        revocation::{Reason, Subject},
        standing::{Space, Standing},
    },
    error::{Error, Reason as Because, Result},
    log::{Effect, WaitUntil},
    storage::{self, ConnectionTrait, roles},
};

/// Makes a role. EXCEEDS_GRANT where it would grant what the caller does not hold.
pub async fn create(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    name: RoleName,
    description: String,
    permissions: PermissionSet,
    until: WaitUntil,
) -> Result<Role> {
    let space = caller.space(authority, space).await?;
    if BuiltInRole::named(&name).is_some() {
        return Err(Error::already_exists("role"));
    }
    require_grantable(caller, &space, &permissions)?;
    let locks = Locks::default().keep_space(&space.id);
    let change = Change::begin(authority, Some(caller), locks).await?;
    require_space(&change.transaction, &space.id).await?;
    let role = Role {
        space_id: space.id,
        name,
        description,
        permissions,
        times: Some((change.now, change.now)),
    };
    roles::insert(&change.transaction, &role, change.now).await?;
    change
        .audit("role.create", &role.space_id, role.name.as_str(), &[])
        .await?;
    change.commit(until).await?;
    Ok(role)
}

/// A page of the roles of a space by name, the built-in ones among them.
pub async fn list(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    wanted: &Wanted,
) -> Result<Page<Role>> {
    let space = caller.space(authority, space).await?;
    let after = authority.pages.after(wanted)?;
    let db = authority.db.reader();
    let mut rows = roles::list(db, &space.id, after.as_deref(), wanted.limit()).await?;
    let built_in = BuiltInRole::ALL
        .into_iter()
        .map(|role| Role::built_in(role, space.id.clone(), space.is_system()))
        .filter(|role| {
            after
                .as_deref()
                .is_none_or(|after| role.name.as_str() > after)
        });
    rows.extend(built_in);
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(authority
        .pages
        .cut(wanted, rows, |role| role.name.to_string()))
}

/// Changes what a role is for, or what it grants. Taking a permission away kills the JWTs that name the role.
/// `FAILED_PRECONDITION/BUILT_IN` for a built-in one; EXCEEDS_GRANT where it would grant more, and the caller does not hold that.
pub async fn update(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    name: &RoleName,
    description: Option<String>,
    permissions: Option<PermissionSet>,
    until: WaitUntil,
) -> Result<(Role, Option<Effect>)> {
    let space = caller.space(authority, space).await?;
    require_own(name)?;
    let locks = Locks::default().change_space(&space.id);
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    let before = found(&change.transaction, &space, name).await?;
    let mut after = before.clone();
    after.description = description.unwrap_or(after.description);
    after.permissions = permissions.unwrap_or(after.permissions);
    after.times = after.times.map(|(made, _)| (made, change.now));
    let added = after.permissions.without(&before.permissions);
    require_grantable(caller, &space, &added)?;
    roles::update(&change.transaction, &after, change.now).await?;
    let subject = Subject::Role(name.clone());
    if !after.permissions.contains_all(&before.permissions) {
        change
            .kill(subject, &space.id, Reason::PrivilegesChanged)
            .await?;
    } else if !added.is_empty() {
        change.touch(subject, &space.id).await?;
    }
    change
        .audit("role.update", &space.id, name.as_str(), &[])
        .await?;
    let effect = change.commit(until).await?;
    Ok((after, effect))
}

/// Deletes a role, takes it from all who have it, and kills the JWTs that name it. `FAILED_PRECONDITION/BUILT_IN` for a
/// built-in one.
pub async fn delete(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    name: &RoleName,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let space = caller.space(authority, space).await?;
    require_own(name)?;
    let locks = Locks::default().change_space(&space.id);
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    found(&change.transaction, &space, name).await?;
    roles::delete(&change.transaction, &space.id, name).await?;
    let subject = Subject::Role(name.clone());
    change
        .kill(subject, &space.id, Reason::PrivilegesChanged)
        .await?;
    change
        .audit("role.delete", &space.id, name.as_str(), &[])
        .await?;
    change.commit(until).await
}

/// Gives a user a role; nothing happens where it has it. EXCEEDS_GRANT where the caller does not hold all that the role grants;
/// NOT_FOUND for a user who does not act in the space, but for who may assign roles in its home space, too.
pub async fn assign(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    user: &str,
    role: &RoleName,
    until: WaitUntil,
) -> Result<RoleAssignment> {
    let space = caller.space(authority, space).await?;
    let user = user_to_assign(authority, caller, user, &space.id).await?;
    let locks = Locks::default().keep_space(&space.id).keep_user(&user);
    // The role must not change between the look at what it grants and the assignment.
    let locks = match BuiltInRole::named(role) {
        Some(_) => locks,
        None => locks.change_space(&space.id),
    };
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    require_space(&change.transaction, &space.id).await?;
    super::users::still_there(&change.transaction, &user).await?;
    let granted = found(&change.transaction, &space, role).await?.permissions;
    caller.require_holding(&granted, &space.id)?;
    if let Some(there) = roles::assignment(&change.transaction, &space.id, &user, role).await? {
        return Ok(there);
    }
    roles::assign(&change.transaction, &space.id, &user, role, change.now).await?;
    change.touch(Subject::User(user.clone()), &space.id).await?;
    let details = [("role", role.as_str())];
    change
        .audit("role.assign", &space.id, user.as_str(), &details)
        .await?;
    let assigned = RoleAssignment {
        space_id: space.id,
        role: role.clone(),
        user_id: user,
        create_time: change.now,
    };
    change.commit(until).await?;
    Ok(assigned)
}

/// Takes a role from a user, and kills the user's JWTs in the space. None where it did not have it.
/// `FAILED_PRECONDITION/LAST_ADMIN` for the last admin of `system`.
pub async fn unassign(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    user: &str,
    role: &RoleName,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let space = caller.space(authority, space).await?;
    let user = user_to_assign(authority, caller, user, &space.id).await?;
    let takes_admin = space.is_system() && *role == admin();
    let mut locks = Locks::default().change_user(&user);
    if takes_admin {
        locks = locks.change_space(&space.id);
    }
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    if !roles::unassign(&change.transaction, &space.id, &user, role).await? {
        return Ok(None);
    }
    require_admin_left(&change, takes_admin).await?;
    let subject = Subject::User(user.clone());
    change
        .kill(subject, &space.id, Reason::PrivilegesChanged)
        .await?;
    let details = [("role", role.as_str())];
    change
        .audit("role.unassign", &space.id, user.as_str(), &details)
        .await?;
    change.commit(until).await
}

/// A page of who has which role in a space; of one user or one role alone, where they are named.
pub async fn assignments(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    user: &str,
    role: Option<RoleName>,
    wanted: &Wanted,
) -> Result<Page<RoleAssignment>> {
    let space = caller.space(authority, space).await?.id;
    let user = match user {
        "" => None,
        named => Some(caller.user_in(authority, named, &space).await?.user.id),
    };
    let after = authority.pages.after(wanted)?;
    let after = after.as_deref().and_then(|place| place.split_once(' '));
    let listed = roles::Wanted {
        space,
        user,
        role,
        after: after.map(|(user, role)| (user.to_owned(), role.to_owned())),
        limit: wanted.limit(),
    };
    let rows = roles::assignments(authority.db.reader(), &listed).await?;
    Ok(authority
        .pages
        .cut(wanted, rows, |row| format!("{} {}", row.user_id, row.role)))
}

/// EXCEEDS_GRANT for what the caller does not hold; INVALID_ARGUMENT for what makes no sense in the space.
fn require_grantable(caller: &Caller, space: &Space, permissions: &PermissionSet) -> Result<()> {
    let of_system = permissions
        .iter()
        .find(|permission| permission.is_of_system());
    if let Some(permission) = of_system.filter(|_| !space.is_system()) {
        return Err(Error::field(
            "role.permissions",
            format!("{permission} exists in the space system alone"),
        ));
    }
    caller.require_holding(permissions, &space.id)
}

fn require_own(name: &RoleName) -> Result<()> {
    if BuiltInRole::named(name).is_none() {
        return Ok(());
    }
    Err(Error::new(
        Because::BuiltIn,
        "a built-in role cannot be changed",
    ))
}

async fn require_space(db: &impl ConnectionTrait, id: &SpaceId) -> Result<()> {
    let space = storage::spaces::describe(db, id).await?;
    space.map(drop).ok_or_else(|| Error::not_found("space"))
}

async fn found(db: &impl ConnectionTrait, space: &Space, name: &RoleName) -> Result<Role> {
    roles::find(db, space, name)
        .await?
        .ok_or_else(|| Error::not_found("role"))
}

async fn user_to_assign(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    space: &SpaceId,
) -> Result<UserId> {
    let named = NamedUser::parse(named)?;
    let db = authority.db.reader();
    let may_see = |standing: &Standing| {
        standing.acts_here() || caller.may(permission::ROLES_WRITE, &standing.user.home_space)
    };
    let standing = storage::standing::standing(db, &named, Some(&space.named()))
        .await?
        .ok_or_else(|| Error::not_found("user"))?;
    if may_see(&standing) {
        return Ok(standing.user.id);
    }
    Err(Error::withheld("user", standing.user.id.as_str()))
}
