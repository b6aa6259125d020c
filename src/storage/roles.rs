//! Roles, and who has which.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel, sea_query::OnConflict};

use super::{
    entity::{StringList, role_assignments, roles},
    statement::{execute, statement},
};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{RoleName, SpaceId, UserId},
        permission::{BuiltInRole, PermissionSet},
    },
    error::Result,
};

/// Whether there is such a role in the space, a built-in one included.
pub async fn exists(db: &impl ConnectionTrait, space: &SpaceId, name: &RoleName) -> Result<bool> {
    if BuiltInRole::named(name).is_some() {
        return Ok(true);
    }
    let sql = "SELECT name FROM roles WHERE space_id = $1 AND name = $2";
    let values = [space.as_str().into(), name.as_str().into()];
    Ok(db
        .query_one_raw(statement(db, sql, values))
        .await?
        .is_some())
}

/// Makes a role.
pub async fn insert(
    db: &impl ConnectionTrait,
    space: &SpaceId,
    name: &RoleName,
    permissions: &PermissionSet,
    now: Timestamp,
) -> Result<()> {
    let model = roles::Model {
        space_id: space.to_string(),
        name: name.to_string(),
        description: String::new(),
        permissions: StringList(permissions.to_strings()),
        create_time: now.micros(),
        update_time: now.micros(),
    };
    roles::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Sets what a role grants.
pub async fn set_permissions(
    db: &impl ConnectionTrait,
    space: &SpaceId,
    name: &RoleName,
    permissions: &PermissionSet,
    now: Timestamp,
) -> Result<()> {
    let sql =
        "UPDATE roles SET permissions = $3, update_time = $4 WHERE space_id = $1 AND name = $2";
    let permissions = StringList(permissions.to_strings());
    let values = [
        space.as_str().into(),
        name.as_str().into(),
        permissions.into(),
        now.micros().into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// Gives a user a role; nothing happens where it has it.
pub async fn assign(
    db: &impl ConnectionTrait,
    space: &SpaceId,
    user: &UserId,
    role: &RoleName,
    now: Timestamp,
) -> Result<()> {
    let model = role_assignments::Model {
        space_id: space.to_string(),
        user_id: user.to_string(),
        role: role.to_string(),
        create_time: now.micros(),
    };
    role_assignments::Entity::insert(model.into_active_model())
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Takes a role from a user. Whether it had it.
pub async fn unassign(
    db: &impl ConnectionTrait,
    space: &SpaceId,
    user: &UserId,
    role: &RoleName,
) -> Result<bool> {
    let sql = "DELETE FROM role_assignments WHERE space_id = $1 AND user_id = $2 AND role = $3";
    let values = [
        space.as_str().into(),
        user.as_str().into(),
        role.as_str().into(),
    ];
    Ok(execute(db, sql, values).await? > 0)
}
