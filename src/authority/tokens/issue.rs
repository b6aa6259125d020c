//! Issues a JWT for a password or an API key.

use std::time::Duration;

use super::IssuedToken;
use crate::{
    authority::{Authority, Call, credentials::Credential, sign_in},
    clock::Timestamp,
    domain::{
        api_key::KeyRecord,
        ids::{ApiKeyId, NamedSpace, SessionId, TokenId, UserId},
        jwt::AccessToken,
        password::Password,
        permission::{PermissionSet, exceeds_grant},
        revocation::Position,
        standing::Standing,
    },
    error::{Error, Reason, Result},
    storage,
};

/// `client_id` of a JWT that was issued for a password.
const PASSWORD_CLIENT: &str = "password";
const MIN_TTL: Duration = Duration::from_mins(1);

/// What is asked of a new token.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Slug or id of the space to act in; empty: the home space, or the API key's.
    pub space: String,
    /// Recipients; empty: the API key's, else the space's.
    pub audiences: Vec<String>,
    /// Narrow to these; empty: all that are granted.
    pub scopes: PermissionSet,
    /// Lifetime; none: the longest there is.
    pub ttl: Option<Duration>,
}

impl Wanted {
    /// The space it names, if any. NOT_FOUND where no space can be called so.
    fn space(&self) -> Result<Option<NamedSpace>> {
        let named = Some(self.space.as_str()).filter(|named| !named.is_empty());
        named.map(NamedSpace::parse).transpose()
    }
}

/// Signs a user in. UNAUTHENTICATED alike for an unknown user, a wrong password, a disabled user and one without a password;
/// RESOURCE_EXHAUSTED where too many failed before, or too many sign in now.
pub async fn for_password(
    authority: &Authority,
    username: &str,
    password: &Password,
    wanted: &Wanted,
    call: &Call,
) -> Result<IssuedToken> {
    let place = sign_in::enter(authority)?;
    // Before the first row is read: whatever changes from here on has a later place than the token's `rev`.
    let rev = authority.log.head().await?;
    let user = sign_in::sign_in(authority, place, username, password, call).await?;
    authority
        .last_use
        .note_sign_in(&user, authority.clock.now());
    mint_for_user(authority, &user, wanted, rev).await
}

/// Issues to a user who is known to be the one.
pub async fn for_user(
    authority: &Authority,
    user: &UserId,
    wanted: &Wanted,
) -> Result<IssuedToken> {
    let rev = authority.log.head().await?;
    mint_for_user(authority, user, wanted, rev).await
}

async fn mint_for_user(
    authority: &Authority,
    user: &UserId,
    wanted: &Wanted,
    rev: Position,
) -> Result<IssuedToken> {
    let space = wanted.space()?;
    let standing =
        storage::standing::standing(authority.db.reader(), &user.named(), space.as_ref())
            .await?
            .filter(Standing::acts_here)
            .ok_or_else(|| Error::not_found("space"))?;
    if standing.user.disabled {
        return Err(Error::credentials_invalid());
    }
    let now = authority.clock.now();
    let granted = standing.granted();
    mint(
        authority,
        &Grant {
            standing: &standing,
            granted: &granted,
            key: None,
            rev,
        },
        wanted,
        now,
    )
}

/// Exchanges an API key for a JWT of the key's space. UNAUTHENTICATED where the key is not good.
pub async fn for_api_key(
    authority: &Authority,
    api_key_token: &str,
    wanted: &Wanted,
    call: &Call,
) -> Result<IssuedToken> {
    let now = authority.clock.now();
    let Ok(good) = authority.judge(api_key_token, now).await? else {
        return Err(Error::credentials_invalid());
    };
    let Credential::ApiKey(key) = &good.credential else {
        return Err(Error::credentials_invalid());
    };
    if !key.allowed_cidrs.is_empty() {
        return Err(Error::new(
            Reason::ApiKeyBound,
            "the key is bound to source networks, which a token could not carry on",
        ));
    }
    let space = &key.standing.space;
    if wanted.space()?.is_some_and(|named| !space.is_named(&named)) {
        return Err(Error::not_found("space"));
    }
    authority.note_use(&good, &call.client_address, now);
    // The record is as old as its position says: what changed since then must count against the token.
    let rev = key.position;
    let grant = Grant {
        standing: &key.standing,
        granted: &key.granted,
        key: Some(key),
        rev,
    };
    mint(authority, &grant, wanted, now)
}

/// What a token is made from.
struct Grant<'a> {
    standing: &'a Standing,
    granted: &'a PermissionSet,
    key: Option<&'a KeyRecord>,
    rev: Position,
}

fn mint(
    authority: &Authority,
    grant: &Grant<'_>,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<IssuedToken> {
    wanted.scopes.require_within(grant.granted)?;
    let scopes = if wanted.scopes.is_empty() {
        grant.granted
    } else {
        &wanted.scopes
    };
    let audiences = audiences(authority, grant, wanted)?;
    let ttl = wanted_ttl(grant, wanted)?;
    let issue_time = now.to_the_second();
    let claims = AccessToken {
        audiences,
        scopes: scopes.clone(),
        narrowed: !wanted.scopes.is_empty() || grant.key.is_some_and(KeyRecord::is_narrowed),
        session_id: SessionId::random()?,
        auth_time: issue_time,
        ..describe(
            authority,
            grant.standing,
            grant.key.map(|key| &key.id),
            issue_time,
            ttl,
            grant.rev,
        )?
    };
    let claims = end_with_key(claims, grant.key);
    sign(authority, claims)
}

/// A token of `standing` that begins at `issue_time`; its scopes, audiences and session are the caller's to fill in.
pub(super) fn describe(
    authority: &Authority,
    standing: &Standing,
    key: Option<&ApiKeyId>,
    issue_time: Timestamp,
    ttl: Duration,
    rev: Position,
) -> Result<AccessToken> {
    Ok(AccessToken {
        issuer: authority.issuer.clone(),
        subject: standing.user.id.clone(),
        audiences: Vec::new(),
        expire_time: issue_time + ttl,
        issue_time,
        not_before: issue_time,
        token_id: TokenId::random()?,
        client_id: key.map_or(PASSWORD_CLIENT, ApiKeyId::as_str).to_owned(),
        scopes: PermissionSet::default(),
        space_id: standing.space.id.clone(),
        space_slug: standing.space.slug.clone(),
        username: standing.user.username.clone(),
        email: Some(standing.user.email.clone()).filter(|email| !email.is_empty()),
        roles: standing.role_names(),
        api_key_id: key.cloned(),
        narrowed: false,
        session_id: SessionId::random()?,
        auth_time: issue_time,
        rev: rev.0,
        signing_key_id: authority.keyring.active()?.id().clone(),
    })
}

/// A token of an API key ends with the key at the latest.
pub(super) fn end_with_key(mut claims: AccessToken, key: Option<&KeyRecord>) -> AccessToken {
    if let Some(expiry) = key.and_then(|key| key.expire_time) {
        claims.expire_time = claims.expire_time.min(expiry.to_the_second());
    }
    claims
}

/// Signs what a token says.
pub(super) fn sign(authority: &Authority, mut claims: AccessToken) -> Result<IssuedToken> {
    let key = authority.keyring.active()?;
    claims.signing_key_id = key.id().clone();
    let access_token = key.sign(&claims)?;
    Ok(IssuedToken {
        access_token,
        claims,
    })
}

fn audiences(authority: &Authority, grant: &Grant<'_>, wanted: &Wanted) -> Result<Vec<String>> {
    let of_key = grant.key.map_or(&[][..], |key| &key.audiences);
    if wanted.audiences.is_empty() {
        let first = [of_key, &grant.standing.space.default_audiences]
            .into_iter()
            .find(|audiences| !audiences.is_empty());
        return Ok(first.map_or_else(|| vec![authority.issuer.to_string()], <[String]>::to_vec));
    }
    let excess: Vec<&str> = wanted
        .audiences
        .iter()
        .filter(|audience| !of_key.is_empty() && !of_key.contains(audience))
        .map(String::as_str)
        .collect();
    if excess.is_empty() {
        Ok(wanted.audiences.clone())
    } else {
        Err(exceeds_grant(&excess.join(" ")))
    }
}

fn wanted_ttl(grant: &Grant<'_>, wanted: &Wanted) -> Result<Duration> {
    let longest = grant.standing.space.max_token_ttl;
    let Some(ttl) = wanted.ttl else {
        return Ok(longest);
    };
    if ttl < MIN_TTL || ttl > longest {
        return Err(Error::field(
            "ttl",
            format!("must be from 60 to {} seconds", longest.as_secs()),
        ));
    }
    Ok(Duration::from_secs(ttl.as_secs()))
}
