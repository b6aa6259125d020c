//! Roles, and who has which.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};

use super::{
    entity::{StringList, role_assignments, roles},
    error::violated_constraint,
    standing::permission_set,
    statement::{execute, statement},
};
use crate::{
    clock::Timestamp,
    domain::{
        directory::{Role, RoleAssignment},
        ids::{RoleName, SpaceId, UserId},
        permission::BuiltInRole,
        standing::Space,
    },
    error::{Error, Result},
};

/// Makes a role. ALREADY_EXISTS where the space has one of this name.
pub async fn insert(db: &impl ConnectionTrait, role: &Role, now: Timestamp) -> Result<()> {
    let row = roles::Model {
        space_id: role.space_id.to_string(),
        name: role.name.to_string(),
        description: role.description.clone(),
        permissions: StringList(role.permissions.to_strings()),
        create_time: now.micros(),
        update_time: now.micros(),
    };
    let inserted = roles::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if violated_constraint(&error).as_deref() == Some("roles_pkey") => {
            Err(Error::already_exists("role"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether there is such a role in the space, a built-in one included.
pub async fn exists(db: &impl ConnectionTrait, space: &SpaceId, name: &RoleName) -> Result<bool> {
    if BuiltInRole::named(name).is_some() {
        return Ok(true);
    }
    let found = roles::Entity::find_by_id((space.to_string(), name.to_string()))
        .one(db)
        .await?;
    Ok(found.is_some())
}

/// A role of a space, which may be a built-in one.
pub async fn find(
    db: &impl ConnectionTrait,
    space: &Space,
    name: &RoleName,
) -> Result<Option<Role>> {
    if let Some(role) = BuiltInRole::named(name) {
        let role = Role::built_in(role, space.id.clone(), space.is_system());
        return Ok(Some(role));
    }
    let found = roles::Entity::find_by_id((space.id.to_string(), name.to_string()))
        .one(db)
        .await?;
    Ok(found.map(described))
}

/// Up to `limit` roles of a space by name, after one of them; not the built-in ones.
pub async fn list(
    db: &impl ConnectionTrait,
    space: &SpaceId,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Role>> {
    let narrowed = Condition::all()
        .add(roles::Column::SpaceId.eq(space.as_str()))
        .add_option(after.map(|name| roles::Column::Name.gt(name)));
    let rows = roles::Entity::find()
        .filter(narrowed)
        .order_by_asc(roles::Column::Name)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(described).collect())
}

/// Sets what can be changed of a role.
pub async fn update(db: &impl ConnectionTrait, role: &Role, now: Timestamp) -> Result<()> {
    let sql = "UPDATE roles SET description = $3, permissions = $4, update_time = $5
               WHERE space_id = $1 AND name = $2";
    let values = [
        role.space_id.as_str().into(),
        role.name.as_str().into(),
        role.description.as_str().into(),
        StringList(role.permissions.to_strings()).into(),
        now.micros().into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// Removes a role, and takes it from all who have it.
pub async fn delete(db: &impl ConnectionTrait, space: &SpaceId, name: &RoleName) -> Result<()> {
    for sql in [
        "DELETE FROM role_assignments WHERE space_id = $1 AND role = $2",
        "DELETE FROM roles WHERE space_id = $1 AND name = $2",
    ] {
        execute(db, sql, [space.as_str().into(), name.as_str().into()]).await?;
    }
    Ok(())
}

/// Removes all roles of a space and of the users at home there, and takes them from all who have them.
pub async fn delete_all(db: &impl ConnectionTrait, space: &SpaceId) -> Result<()> {
    for sql in [
        "DELETE FROM role_assignments WHERE space_id = $1
         OR user_id IN (SELECT user_id FROM users WHERE space_id = $1)",
        "DELETE FROM roles WHERE space_id = $1",
    ] {
        execute(db, sql, [space.as_str().into()]).await?;
    }
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
    let row = role_assignments::Model {
        space_id: space.to_string(),
        user_id: user.to_string(),
        role: role.to_string(),
        create_time: now.micros(),
    };
    role_assignments::Entity::insert(row.into_active_model())
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

/// Takes every role, in every space, from a user.
pub async fn unassign_all(db: &impl ConnectionTrait, user: &UserId) -> Result<()> {
    let sql = "DELETE FROM role_assignments WHERE user_id = $1";
    execute(db, sql, [user.as_str().into()]).await?;
    Ok(())
}

/// Whether and since when a user has a role.
pub async fn assignment(
    db: &impl ConnectionTrait,
    space: &SpaceId,
    user: &UserId,
    role: &RoleName,
) -> Result<Option<RoleAssignment>> {
    let key = (space.to_string(), user.to_string(), role.to_string());
    let found = role_assignments::Entity::find_by_id(key).one(db).await?;
    Ok(found.map(assigned))
}

/// Which assignments to list, by user and role.
#[derive(Debug)]
pub struct Wanted {
    /// In this space.
    pub space: SpaceId,
    /// Of this user alone.
    pub user: Option<UserId>,
    /// Of this role alone.
    pub role: Option<RoleName>,
    /// Only those after this one.
    pub after: Option<(String, String)>,
    /// At most so many.
    pub limit: u64,
}

/// Who has which role in a space.
pub async fn assignments(
    db: &impl ConnectionTrait,
    wanted: &Wanted,
) -> Result<Vec<RoleAssignment>> {
    use role_assignments::Column;
    let after = wanted.after.as_ref().map(|(user, role)| {
        Condition::any().add(Column::UserId.gt(user)).add(
            Condition::all()
                .add(Column::UserId.eq(user))
                .add(Column::Role.gt(role)),
        )
    });
    let narrowed = Condition::all()
        .add(Column::SpaceId.eq(wanted.space.as_str()))
        .add_option(
            wanted
                .user
                .as_ref()
                .map(|user| Column::UserId.eq(user.as_str())),
        )
        .add_option(
            wanted
                .role
                .as_ref()
                .map(|role| Column::Role.eq(role.as_str())),
        )
        .add_option(after);
    let rows = role_assignments::Entity::find()
        .filter(narrowed)
        .order_by_asc(Column::UserId)
        .order_by_asc(Column::Role)
        .limit(wanted.limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(assigned).collect())
}

/// Where users of a home space have a role elsewhere: each user and each other space once.
pub async fn held_elsewhere(
    db: &impl ConnectionTrait,
    home: &SpaceId,
) -> Result<Vec<(UserId, SpaceId)>> {
    let sql = "SELECT DISTINCT a.user_id, a.space_id FROM role_assignments a
               JOIN users u ON u.user_id = a.user_id JOIN spaces s ON s.space_id = a.space_id
               WHERE u.space_id = $1 AND u.delete_time IS NULL AND a.space_id <> $1 AND s.delete_time IS NULL
               ORDER BY a.user_id, a.space_id";
    let rows = db
        .query_all_raw(statement(db, sql, [home.as_str().into()]))
        .await?;
    rows.iter()
        .map(|row| {
            let user = UserId::known(row.try_get::<String>("", "user_id")?);
            let space = SpaceId::known(row.try_get::<String>("", "space_id")?);
            Ok((user, space))
        })
        .collect()
}

/// How many users who are not switched off have a role.
pub async fn count_enabled_holders(
    db: &impl ConnectionTrait,
    space: &SpaceId,
    role: &RoleName,
) -> Result<i64> {
    let sql =
        "SELECT count(*) AS holders FROM role_assignments a JOIN users u ON u.user_id = a.user_id
               WHERE a.space_id = $1 AND a.role = $2 AND u.delete_time IS NULL AND NOT u.disabled";
    let values = [space.as_str().into(), role.as_str().into()];
    let row = db.query_one_raw(statement(db, sql, values)).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get("", "holders"))?)
}

fn described(row: roles::Model) -> Role {
    Role {
        space_id: SpaceId::known(row.space_id),
        name: RoleName::known(row.name),
        description: row.description,
        permissions: permission_set(row.permissions),
        times: Some((
            Timestamp::from_micros(row.create_time),
            Timestamp::from_micros(row.update_time),
        )),
    }
}

fn assigned(row: role_assignments::Model) -> RoleAssignment {
    RoleAssignment {
        space_id: SpaceId::known(row.space_id),
        role: RoleName::known(row.role),
        user_id: UserId::known(row.user_id),
        create_time: Timestamp::from_micros(row.create_time),
    }
}
