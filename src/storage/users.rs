//! Users.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{
    entity::{HiddenText, users},
    error::violated_constraint,
    statement::{RowLock, execute, lock_row, lock_rows_exclusively, statement},
};
use crate::{
    clock::Timestamp,
    domain::{
        directory::User,
        ids::{NamedUser, SpaceId, UserId, Username},
    },
    error::{Error, Result},
};

/// Makes a user, who can sign in where there is a hash of a password. ALREADY_EXISTS where another one has, or had, the name.
pub async fn insert(
    db: &impl ConnectionTrait,
    user: &User,
    password_hash: Option<&str>,
) -> Result<()> {
    let row = users::Model {
        user_id: user.id.to_string(),
        username: user.username.to_string(),
        email: user.email.clone(),
        display_name: user.display_name.clone(),
        space_id: user.home_space.to_string(),
        disabled: user.disabled,
        password_hash: password_hash.map(|hash| HiddenText(hash.to_owned())),
        key_generation: 0,
        keys_ended_time: None,
        create_time: user.create_time.micros(),
        update_time: user.update_time.micros(),
        delete_time: None,
        last_sign_in_time: None,
    };
    let inserted = users::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if violated_constraint(&error).as_deref() == Some("users_username_key") => {
            Err(Error::already_exists("user"))
        }
        Err(error) => Err(error.into()),
    }
}

/// A user by id or username, for those who may read it; none where it is deleted.
pub async fn describe(db: &impl ConnectionTrait, named: &NamedUser) -> Result<Option<User>> {
    let named = Condition::any()
        .add(users::Column::UserId.eq(named.as_str()))
        .add(users::Column::Username.eq(named.as_str()));
    let found = users::Entity::find()
        .filter(named)
        .filter(users::Column::DeleteTime.is_null())
        .one(db)
        .await?;
    Ok(found.map(described))
}

/// Up to `limit` users by username, after one of them; of this home space alone, where one is named.
pub async fn list(
    db: &impl ConnectionTrait,
    home: Option<&SpaceId>,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<User>> {
    let narrowed = Condition::all()
        .add(users::Column::DeleteTime.is_null())
        .add_option(home.map(|home| users::Column::SpaceId.eq(home.as_str())))
        .add_option(after.map(|username| users::Column::Username.gt(username)));
    let rows = users::Entity::find()
        .filter(narrowed)
        .order_by_asc(users::Column::Username)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(described).collect())
}

/// Sets what can be changed of a user.
pub async fn update(db: &impl ConnectionTrait, user: &User) -> Result<()> {
    let sql = "UPDATE users SET email = $2, display_name = $3, disabled = $4, update_time = $5 WHERE user_id = $1";
    let values = [
        user.id.as_str().into(),
        user.email.as_str().into(),
        user.display_name.as_str().into(),
        user.disabled.into(),
        user.update_time.micros().into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// Leaves nothing of a user but its id and name, which are never given out again.
pub async fn delete(db: &impl ConnectionTrait, id: &UserId, now: Timestamp) -> Result<()> {
    let sql = format!("UPDATE users SET {ERASED} WHERE user_id = $1");
    execute(db, sql, [id.as_str().into(), now.micros().into()]).await?;
    Ok(())
}

/// The same for every user of a home space.
pub async fn delete_all(db: &impl ConnectionTrait, home: &SpaceId, now: Timestamp) -> Result<()> {
    let sql = format!("UPDATE users SET {ERASED} WHERE space_id = $1 AND delete_time IS NULL");
    execute(db, sql, [home.as_str().into(), now.micros().into()]).await?;
    Ok(())
}

const ERASED: &str =
    "delete_time = $2, update_time = $2, password_hash = NULL, email = '', display_name = ''";

fn described(row: users::Model) -> User {
    User {
        id: UserId::known(row.user_id),
        username: Username::known(row.username),
        email: row.email,
        display_name: row.display_name,
        disabled: row.disabled,
        password_set: row.password_hash.is_some(),
        home_space: SpaceId::known(row.space_id),
        create_time: Timestamp::from_micros(row.create_time),
        update_time: Timestamp::from_micros(row.update_time),
        last_sign_in_time: row.last_sign_in_time.map(Timestamp::from_micros),
    }
}

/// What a sign-in is checked against. Debug hides the hash.
pub struct SignInSecret {
    /// Who it would be.
    pub user_id: UserId,
    /// None for one that cannot sign in.
    pub password_hash: Option<String>,
    /// Whether the user is switched off.
    pub disabled: bool,
}

impl std::fmt::Debug for SignInSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInSecret")
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}

/// What a sign-in under this name is checked against; none where nobody has it.
pub async fn sign_in_secret(
    db: &impl ConnectionTrait,
    username: &Username,
) -> Result<Option<SignInSecret>> {
    let sql = "SELECT user_id, password_hash, disabled FROM users WHERE username = $1 AND delete_time IS NULL";
    let Some(row) = db
        .query_one_raw(statement(db, sql, [username.as_str().into()]))
        .await?
    else {
        return Ok(None);
    };
    Ok(Some(SignInSecret {
        user_id: UserId::known(row.try_get::<String>("", "user_id")?),
        password_hash: row.try_get("", "password_hash")?,
        disabled: row.try_get("", "disabled")?,
    }))
}

/// Who has a name, and where it is at home.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The name.
    pub username: Username,
    /// Whose it is.
    pub user_id: UserId,
    /// The home space.
    pub home_space: SpaceId,
}

/// Who has these names; those who are deleted have none.
pub async fn bearers<'a>(
    db: &impl ConnectionTrait,
    names: impl IntoIterator<Item = &'a Username>,
) -> Result<Vec<Bearer>> {
    let names = names.into_iter().map(Username::as_str);
    let rows: Vec<(String, String, String)> = users::Entity::find()
        .select_only()
        .columns([
            users::Column::Username,
            users::Column::UserId,
            users::Column::SpaceId,
        ])
        .filter(users::Column::Username.is_in(names))
        .filter(users::Column::DeleteTime.is_null())
        .into_tuple()
        .all(db)
        .await?;
    let bearer = |(username, user_id, home_space): (String, String, String)| Bearer {
        username: Username::known(username),
        user_id: UserId::known(user_id),
        home_space: SpaceId::known(home_space),
    };
    Ok(rows.into_iter().map(bearer).collect())
}

/// Replaces a hash where it is still the one that was checked. Whether it was.
pub async fn replace_hash(
    db: &impl ConnectionTrait,
    checked: &SignInSecret,
    hash: &str,
) -> Result<bool> {
    let sql = "UPDATE users SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2";
    let checked_hash = checked.password_hash.clone();
    let values = [
        checked.user_id.as_str().into(),
        checked_hash.into(),
        hash.into(),
    ];
    Ok(execute(db, sql, values).await? > 0)
}

/// Sets a password.
pub async fn set_password(
    db: &impl ConnectionTrait,
    id: &UserId,
    hash: &str,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE users SET password_hash = $2, update_time = $3 WHERE user_id = $1";
    execute(
        db,
        sql,
        [id.as_str().into(), hash.into(), now.micros().into()],
    )
    .await?;
    Ok(())
}

/// Keeps the user from being ended until the transaction is over.
pub async fn lock_shared(db: &impl ConnectionTrait, id: &UserId) -> Result<()> {
    lock_row(db, "users", "user_id", id.as_str(), RowLock::Shared).await
}

/// Waits for all that keep the user from being ended, and keeps others from it until the transaction is over.
pub async fn lock_exclusively(db: &impl ConnectionTrait, id: &UserId) -> Result<()> {
    lock_row(db, "users", "user_id", id.as_str(), RowLock::Exclusive).await
}

/// The same for every user of a home space, in the order of their ids.
pub async fn lock_all_exclusively(db: &impl ConnectionTrait, home: &SpaceId) -> Result<()> {
    lock_rows_exclusively(db, "users", "space_id", home.as_str(), "user_id").await
}

/// Ends every API key of the user, in every space and for good.
pub async fn raise_key_generation(
    db: &impl ConnectionTrait,
    id: &UserId,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE users SET key_generation = key_generation + 1, keys_ended_time = $2 WHERE user_id = $1";
    execute(db, sql, [id.as_str().into(), now.micros().into()]).await?;
    Ok(())
}
