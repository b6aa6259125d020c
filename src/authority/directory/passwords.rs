//! Passwords: one's own, changed by who knows it; another's, set by who may do all that the other may.

use zeroize::Zeroizing;

use super::{Fate, require_over, tell_everywhere, users};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks},
        credentials::Credential,
        sign_in::{self, Purpose, throttle},
        tokens::{IssuedToken, issue},
    },
    domain::{directory::User, ids::UserId, password::Password},
    error::{Error, Reason, Result},
    log::{Effect, WaitUntil},
    random, storage,
};

/// A changed password.
#[derive(Debug)]
pub struct Changed {
    /// What became of the user's JWTs.
    pub effect: Option<Effect>,
    /// A fresh one; none where time ran out before the revocation had its place.
    pub token: Option<IssuedToken>,
}

/// Changes the caller's own password, which takes the current one. Kills every JWT of the user, and issues a fresh one; API
/// keys stay. UNAUTHENTICATED where the current one is wrong.
pub async fn change(
    authority: &Authority,
    caller: &Caller,
    current: &Password,
    new: &Password,
    until: WaitUntil,
) -> Result<Changed> {
    let place = sign_in::enter(authority)?;
    let user = users::still_there(authority.db.reader(), caller.user_id()).await?;
    new.require_choosable(&user.username, "new_password")?;
    let (username, purpose) = (user.username.as_str(), Purpose::NewPassword(caller));
    let checked =
        sign_in::check(authority, place, username, current, purpose, &caller.call).await?;
    let hash = authority.hashing.hash(new).await?;
    let locks = Locks::default().change_user(&user.id);
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    users::still_there(&change.transaction, &user.id).await?;
    if !storage::users::replace_hash(&change.transaction, &checked.secret, &hash).await? {
        return Err(Error::new(
            Reason::ConcurrentModification,
            "the password was changed at the same time",
        ));
    }
    tell_everywhere(&mut change, &user.id, Fate::Killed).await?;
    change
        .audit(
            "user.change_password",
            &user.home_space,
            user.id.as_str(),
            &[],
        )
        .await?;
    let effect = change.commit(until).await?;
    let placed = effect
        .as_ref()
        .is_some_and(|effect| effect.position.is_some());
    let token = if placed {
        Some(fresh(authority, caller).await?)
    } else {
        None
    };
    Ok(Changed { effect, token })
}

/// A token of a new session, for the space and the audiences of the caller's credential.
async fn fresh(authority: &Authority, caller: &Caller) -> Result<IssuedToken> {
    let audiences = match &caller.credential {
        Credential::AccessToken(held) => held.token.audiences.clone(),
        Credential::ApiKey(key) => key.audiences.clone(),
    };
    let wanted = issue::Wanted {
        space: caller.space_id().to_string(),
        audiences,
        ..issue::Wanted::default()
    };
    issue::for_user(authority, caller.user_id(), &wanted).await
}

/// A password that was set.
#[derive(Debug)]
pub struct Reset {
    /// The one that was made up, to be shown once; none where one was given.
    pub generated: Option<Zeroizing<String>>,
    /// What became of the user's tokens.
    pub effect: Option<Effect>,
}

/// Sets a user's password, a made-up one where there is no `new` one, and kills its JWTs; its API keys, too, where that is asked for.
/// EXCEEDS_GRANT where the user may do, in any space, what the caller may not.
pub async fn reset(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    new: Option<Password>,
    revoke_api_keys: bool,
    until: WaitUntil,
) -> Result<Reset> {
    let user = users::get(authority, caller, named).await?;
    let (password, generated) = if let Some(given) = new {
        (given, None)
    } else {
        let made_up = random::base62(24)?;
        let password = Password::presented(made_up.to_string(), "new_password")?;
        (password, Some(made_up))
    };
    password.require_choosable(&user.username, "new_password")?;
    // Before any work is done for it; and again once nothing can change any more.
    require_over(authority.db.reader(), caller, &user.id).await?;
    let hash = authority.hashing.hash(&password).await?;
    let locks = Locks::default().change_user(&user.id);
    let mut change = Change::begin(authority, Some(caller), locks).await?;
    users::still_there(&change.transaction, &user.id).await?;
    require_over(&change.transaction, caller, &user.id).await?;
    set(authority, &mut change, &user, &hash).await?;
    if revoke_api_keys {
        storage::users::raise_key_generation(&change.transaction, &user.id, change.now).await?;
    }
    let revoked = if revoke_api_keys { "revoked" } else { "kept" };
    let details = [("api_keys", revoked)];
    change
        .audit(
            "user.reset_password",
            &user.home_space,
            user.id.as_str(),
            &details,
        )
        .await?;
    let effect = change.commit(until).await?;
    Ok(Reset { generated, effect })
}

/// Sets a user's password without a caller: for who has the database itself at hand.
pub async fn recover(
    authority: &Authority,
    id: &UserId,
    password: &Password,
    until: WaitUntil,
) -> Result<()> {
    let hash = authority.hashing.hash(password).await?;
    let locks = Locks::default().change_user(id);
    let mut change = Change::begin(authority, None, locks).await?;
    let user = users::still_there(&change.transaction, id).await?;
    set(authority, &mut change, &user, &hash).await?;
    change
        .audit("user.recover", &user.home_space, id.as_str(), &[])
        .await?;
    change.commit(until).await?;
    Ok(())
}

/// Sets it, kills the user's JWTs, and lets the user sign in with it at once.
async fn set(
    authority: &Authority,
    change: &mut Change<'_>,
    user: &User,
    hash: &str,
) -> Result<()> {
    storage::users::set_password(&change.transaction, &user.id, hash, change.now).await?;
    throttle::lift(authority, &change.transaction, &user.username).await?;
    tell_everywhere(change, &user.id, Fate::Killed).await
}
