//! Signing in with a name and a password: one hash an attempt, and one answer for every failure.
//!
//! [`throttle`] slows down who guesses; [`hashing`] keeps hashes within what the machine can do, on `threads` that let those
//! first that answer calls; [`counts`] is for the metrics.

pub mod counts;
pub mod hashing;
mod threads;
pub mod throttle;

use self::hashing::Place;
use super::{Authority, Call, caller::Caller};
use crate::{
    domain::{
        ids::{UserId, Username},
        password::Password,
        throttle::Outcome,
    },
    error::{Error, Reason, Result},
    storage,
};

/// A place among those who sign in. `OVERLOADED`, before anything is read or written, where there are too many.
pub fn enter(authority: &Authority) -> Result<Place> {
    let place = authority.hashing.enter();
    if place.is_err() {
        authority.sign_ins.count(&place);
    }
    place
}

/// The user who has this name and password. UNAUTHENTICATED, after the same work, where there is none.
pub async fn sign_in(
    authority: &Authority,
    place: Place,
    username: &str,
    password: &Password,
    call: &Call,
) -> Result<UserId> {
    let checked = check(authority, place, username, password, Purpose::Token, call).await?;
    if checked.needs_rehash {
        renew_hash(authority, &checked.secret, password).await;
    }
    Ok(checked.secret.user_id)
}

/// What a password is given for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// A token.
    Token,
    /// To set another one, by a caller who is known.
    NewPassword(&'a Caller),
}

/// A password that was found right.
#[derive(Debug)]
pub struct Checked {
    /// Whose, and the hash that it was compared with.
    pub secret: storage::users::SignInSecret,
    /// Whether that hash is weaker than today's.
    pub needs_rehash: bool,
}

/// Compares a password, where the throttle lets it. UNAUTHENTICATED, after the same work, where it is not the right one.
pub async fn check(
    authority: &Authority,
    place: Place,
    username: &str,
    password: &Password,
    purpose: Purpose<'_>,
    call: &Call,
) -> Result<Checked> {
    let checked = attempt(authority, place, username, password, call).await;
    authority.sign_ins.count(&checked);
    if let Err(error) = &checked {
        let now = authority.clock.now();
        let refusals = &authority.refusals;
        refusals.note_sign_in(username, purpose, call, error, now);
    }
    checked
}

async fn attempt(
    authority: &Authority,
    place: Place,
    username: &str,
    password: &Password,
    call: &Call,
) -> Result<Checked> {
    let attempt = throttle::begin(authority, username, call).await?;
    let compared = compare(authority, place, username, password).await;
    let outcome = match &compared {
        Ok(_) => Outcome::Right,
        Err(error) if error.reason() == Reason::CredentialsInvalid => Outcome::Wrong,
        Err(_) => Outcome::NotCompared,
    };
    attempt.settle(outcome).await;
    compared
}

/// The name may belong to nobody, or have no form of a name at all: nothing returns before the hash.
async fn compare(
    authority: &Authority,
    place: Place,
    username: &str,
    password: &Password,
) -> Result<Checked> {
    let secret = match Username::parse(username, "username") {
        Ok(name) => storage::users::sign_in_secret(authority.db.reader(), &name).await?,
        Err(_) => None,
    };
    let stored = secret
        .as_ref()
        .and_then(|secret| secret.password_hash.as_deref());
    let verdict = authority.hashing.verify(place, password, stored).await?;
    let secret = secret
        .filter(|secret| verdict.matches && !secret.disabled)
        .ok_or_else(Error::credentials_invalid)?;
    Ok(Checked {
        secret,
        needs_rehash: verdict.needs_rehash,
    })
}

/// Replaces a hash that is weaker than today's, where nobody else has replaced it. A failure is left to the next sign-in.
async fn renew_hash(
    authority: &Authority,
    secret: &storage::users::SignInSecret,
    password: &Password,
) {
    let renewed = async {
        let hash = authority.hashing.hash(password).await?;
        let transaction = authority.db.begin().await?;
        storage::users::replace_hash(&transaction, secret, &hash).await?;
        transaction.commit().await
    };
    if let Err(error) = renewed.await {
        tracing::warn!(error = ?error, user.id = %secret.user_id, "sign_in.rehash_failed");
    }
}
