//! Users.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};

use super::{
    entity::{HiddenText, users},
    statement::{
        execute, lock_exclusively as lock_row_exclusively, lock_shared as lock_row, statement,
    },
};
use crate::{
    clock::Timestamp,
    domain::ids::{SpaceId, UserId, Username},
    error::Result,
};

/// A user to be.
#[derive(Debug)]
pub struct NewUser<'a> {
    /// Its id.
    pub id: &'a UserId,
    /// The name it signs in with.
    pub username: &'a Username,
    /// Empty where there is none.
    pub email: &'a str,
    /// For people.
    pub display_name: &'a str,
    /// The space it belongs to.
    pub home_space: &'a SpaceId,
    /// None for one that holds API keys alone.
    pub password_hash: Option<&'a str>,
}

/// Makes a user.
pub async fn insert(db: &impl ConnectionTrait, user: &NewUser<'_>, now: Timestamp) -> Result<()> {
    let model = users::Model {
        user_id: user.id.to_string(),
        username: user.username.to_string(),
        email: user.email.to_owned(),
        display_name: user.display_name.to_owned(),
        space_id: user.home_space.to_string(),
        disabled: false,
        password_hash: user.password_hash.map(|hash| HiddenText(hash.to_owned())),
        key_generation: 0,
        keys_ended_time: None,
        create_time: now.micros(),
        update_time: now.micros(),
        delete_time: None,
        last_sign_in_time: None,
    };
    users::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
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

/// Replaces a hash with another one of the same password, where it is still the one that was checked.
pub async fn replace_hash(
    db: &impl ConnectionTrait,
    checked: &SignInSecret,
    hash: &str,
) -> Result<()> {
    let sql = "UPDATE users SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2";
    let checked_hash = checked.password_hash.clone();
    let values = [
        checked.user_id.as_str().into(),
        checked_hash.into(),
        hash.into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
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

/// Switches a user off or on.
pub async fn set_disabled(
    db: &impl ConnectionTrait,
    id: &UserId,
    disabled: bool,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE users SET disabled = $2, update_time = $3 WHERE user_id = $1";
    execute(
        db,
        sql,
        [id.as_str().into(), disabled.into(), now.micros().into()],
    )
    .await?;
    Ok(())
}

/// Keeps the user from being ended until the transaction is over.
pub async fn lock_shared(db: &impl ConnectionTrait, id: &UserId) -> Result<()> {
    lock_row(db, "users", "user_id", id.as_str()).await
}

/// Waits for all that keep the user from being ended, and keeps others from it until the transaction is over.
pub async fn lock_exclusively(db: &impl ConnectionTrait, id: &UserId) -> Result<()> {
    lock_row_exclusively(db, "users", "user_id", id.as_str()).await
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

/// Notes a sign-in, forward only.
pub async fn note_sign_in(db: &impl ConnectionTrait, id: &UserId, time: Timestamp) -> Result<()> {
    let sql = "UPDATE users SET last_sign_in_time = $2
               WHERE user_id = $1 AND (last_sign_in_time IS NULL OR last_sign_in_time < $2)";
    execute(db, sql, [id.as_str().into(), time.micros().into()]).await?;
    Ok(())
}
