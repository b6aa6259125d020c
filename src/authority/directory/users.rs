//! Users: who signs in, and the service accounts that only hold API keys.

use crate::{
    authority::{Authority, audit},
    clock::Timestamp,
    domain::{
        ids::{SpaceId, UserId, Username},
        password::Password,
        revocation::{Decision, Reason, Subject},
    },
    error::Result,
    log::{Effect, Pending, WaitUntil},
    storage::{self, Transaction, users::NewUser},
};

/// Makes a user; one without a password holds API keys but cannot sign in.
pub async fn create(
    authority: &Authority,
    actor: audit::Actor<'_>,
    home: &SpaceId,
    username: &Username,
    password: Option<&Password>,
) -> Result<UserId> {
    let now = authority.clock.now();
    let id = UserId::new(now)?;
    let hash = match password {
        Some(password) => Some(authority.hashing.hash(password).await?),
        None => None,
    };
    let transaction = authority.db.begin().await?;
    storage::spaces::lock_shared(&transaction, home).await?;
    let user = NewUser {
        id: &id,
        username,
        email: "",
        display_name: "",
        home_space: home,
        password_hash: hash.as_deref(),
    };
    storage::users::insert(&transaction, &user, now).await?;
    let done = audit::Done {
        action: "user.create",
        space: Some(home),
        resource: id.as_str(),
        details: &[("username", username.as_str())],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    Ok(id)
}

/// Switches a user off, which kills its JWTs and switches off its API keys, or on again.
pub async fn set_disabled(
    authority: &Authority,
    actor: audit::Actor<'_>,
    id: &UserId,
    disabled: bool,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let now = authority.clock.now();
    let mut pending = authority.log.pending();
    let transaction = authority.db.begin().await?;
    storage::users::set_disabled(&transaction, id, disabled, now).await?;
    let home = end_everywhere(&transaction, &mut pending, id, disabled, now).await?;
    let done = audit::Done {
        action: if disabled {
            "user.disable"
        } else {
            "user.enable"
        },
        space: home.as_ref(),
        resource: id.as_str(),
        details: &[],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    Ok(pending.effect(until).await.filter(|_| disabled))
}

/// Sets a password, which kills the user's JWTs; API keys stay.
pub async fn set_password(
    authority: &Authority,
    actor: audit::Actor<'_>,
    id: &UserId,
    password: &Password,
    until: WaitUntil,
) -> Result<Option<Effect>> {
    let hash = authority.hashing.hash(password).await?;
    let now = authority.clock.now();
    let mut pending = authority.log.pending();
    let transaction = authority.db.begin().await?;
    storage::users::set_password(&transaction, id, &hash, now).await?;
    let home = end_everywhere(&transaction, &mut pending, id, true, now).await?;
    let done = audit::Done {
        action: "user.set_password",
        space: home.as_ref(),
        resource: id.as_str(),
        details: &[],
    };
    audit::record(&transaction, actor, done, now).await?;
    transaction.commit().await?;
    Ok(pending.effect(until).await)
}

/// One entry for each space where the user acts, so that no tenant learns of another's users. Its home.
async fn end_everywhere(
    transaction: &Transaction,
    pending: &mut Pending,
    id: &UserId,
    kills: bool,
    now: Timestamp,
) -> Result<Option<SpaceId>> {
    let mut home = None;
    for standing in storage::standing::everywhere(transaction, id).await? {
        let (subject, space) = (Subject::User(id.clone()), Some(standing.space.id));
        let decision = if kills {
            Decision::revocation(subject, space, Reason::PrincipalChanged)
        } else {
            Decision::change(subject, space)
        };
        pending.append(transaction, &decision, now).await?;
        home = Some(standing.user.home_space);
    }
    Ok(home)
}
