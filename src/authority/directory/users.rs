//! Users: who signs in, and the service accounts that only hold API keys. They belong to their home space, and that is where
//! the right to read and change them counts.

use super::{
    Fate, administered, is_system_admin, require_admin_left, require_over, tell_everywhere,
};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks},
        page::{Page, Wanted},
    },
    domain::{
        directory::User,
        ids::{NamedUser, UserId, Username},
        password::Password,
    },
    error::{Error, Result},
    log::{Effect, WaitUntil},
    storage::{self, ConnectionTrait},
};

/// A user to be.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name it signs in with.
    pub username: Username,
    /// Empty where there is none.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// Whether it is switched off from the beginning.
    pub disabled: bool,
    /// The home space, by slug or id; empty: the caller's.
    pub space: String,
    /// None for one that only holds API keys.
    pub password: Option<Password>,
}

/// Makes a user. ALREADY_EXISTS where another one, anywhere, has or had the name.
pub async fn create(
    authority: &Authority,
    caller: &Caller,
    wanted: NewUser,
    until: WaitUntil,
) -> Result<User> {
    let home = caller.space(authority, &wanted.space).await?.id;
    let hash = match &wanted.password {
        Some(password) => Some(authority.hashing.hash(password).await?),
        None => None,
    };
    let locks = Locks::default().keep_space(&home);
    let change = Change::begin(authority, Some(caller), locks).await?;
    if storage::spaces::describe(&change.transaction, &home)
        .await?
        .is_none()
    {
        return Err(Error::not_found("space"));
    }
    let user = User {
        id: UserId::new(change.now)?,
        username: wanted.username,
        email: wanted.email,
        display_name: wanted.display_name,
        disabled: wanted.disabled,
        password_set: hash.is_some(),
        home_space: home,
        create_time: change.now,
        update_time: change.now,
        last_sign_in_time: None,
    };
    storage::users::insert(&change.transaction, &user, hash.as_deref()).await?;
    let details = [("username", user.username.as_str())];
    change
        .audit("user.create", &user.home_space, user.id.as_str(), &details)
        .await?;
    change.commit(until).await?;
    Ok(user)
}

/// One user, by id or username. NOT_FOUND where it does not exist or is at home in a space that the caller may not know of.
pub async fn get(authority: &Authority, caller: &Caller, named: &str) -> Result<User> {
    let named = NamedUser::parse(named)?;
    let user = storage::users::describe(authority.db.reader(), &named)
        .await?
        .ok_or_else(|| Error::not_found("user"))?;
    if caller.sees(&user.home_space) {
        return Ok(user);
    }
    Err(Error::withheld("user", user.id.as_str()))
}

/// A page of the users that the caller may read, by username; those of one home space alone, where one is named.
pub async fn list(
    authority: &Authority,
    caller: &Caller,
    space: &str,
    wanted: &Wanted,
) -> Result<Page<User>> {
    let home = if space.is_empty() && caller.in_system() {
        None
    } else {
        Some(caller.space(authority, space).await?.id)
    };
    let after = authority.pages.after(wanted)?;
    let db = authority.db.reader();
    let rows = storage::users::list(db, home.as_ref(), after.as_deref(), wanted.limit()).await?;
    Ok(authority
        .pages
        .cut(wanted, rows, |user| user.username.to_string()))
}

/// What to change; none: leave it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Empty: it has none any more.
    pub email: Option<String>,
    /// For people.
    pub display_name: Option<String>,
    /// Whether it is switched off.
    pub disabled: Option<bool>,
}

/// Changes a user. Switching it off kills its JWTs and switches off its API keys.
pub async fn update(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    changes: Changes,
    until: WaitUntil,
) -> Result<(User, Option<Effect>)> {
    let id = get(authority, caller, named).await?.id;
    let mut locks = Locks::default().change_user(&id);
    if changes.disabled == Some(true)
        && let Some(system) = administered(authority, &id).await?
    {
        locks = locks.change_space(&system);
    }
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    let before = still_there(&change.transaction, &id).await?;
    let mut after = before.clone();
    after.email = changes.email.unwrap_or(after.email);
    after.display_name = changes.display_name.unwrap_or(after.display_name);
    after.disabled = changes.disabled.unwrap_or(after.disabled);
    after.update_time = change.now;
    if before.disabled && !after.disabled {
        require_over(&change.transaction, caller, &id).await?;
    }
    storage::users::update(&change.transaction, &after).await?;
    if !before.disabled && after.disabled {
        let was_admin = is_system_admin(&change, &id).await?;
        require_admin_left(&change, was_admin).await?;
        tell_everywhere(&mut change, &id, Fate::Killed).await?;
    } else if before.disabled != after.disabled || before.email != after.email {
        tell_everywhere(&mut change, &id, Fate::Stale).await?;
    }
    let action = match (before.disabled, after.disabled) {
        (false, true) => "user.disable",
        (true, false) => "user.enable",
        _ => "user.update",
    };
    change
        .audit(action, &after.home_space, id.as_str(), &[])
        .await?;
    let effect = change.commit(until).await?;
    Ok((after, effect))
}

/// Deletes a user with its keys, roles and tokens. `FAILED_PRECONDITION/LAST_ADMIN` for the last admin of `system`.
pub async fn delete(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let id = get(authority, caller, named).await?.id;
    let mut locks = Locks::default().change_user(&id);
    if let Some(system) = administered(authority, &id).await? {
        locks = locks.change_space(&system);
    }
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    let user = still_there(&change.transaction, &id).await?;
    let was_admin = is_system_admin(&change, &id).await?;
    tell_everywhere(&mut change, &id, Fate::Killed).await?;
    storage::roles::unassign_all(&change.transaction, &id).await?;
    storage::users::delete(&change.transaction, &id, change.now).await?;
    require_admin_left(&change, was_admin).await?;
    let details = [("username", user.username.as_str())];
    change
        .audit("user.delete", &user.home_space, id.as_str(), &details)
        .await?;
    change.commit(until).await
}

/// A user as it stands once its row is locked.
pub(super) async fn still_there(db: &impl ConnectionTrait, id: &UserId) -> Result<User> {
    storage::users::describe(db, &id.named())
        .await?
        .ok_or_else(|| Error::not_found("user"))
}
