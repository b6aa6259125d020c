//! Makes an API key. The whole of it is in this answer alone.

use std::{collections::BTreeMap, time::Duration};

use super::{Minted, derive_token, reach, require_not_revoked};
use crate::{
    authority::{
        Authority,
        caller::Caller,
        change::{Change, Locks},
        idempotency::{Answer, Request},
    },
    clock::Timestamp,
    domain::{
        api_key::{ApiKey, ApiKeyToken, Bounds},
        ids::ApiKeyId,
        permission,
        standing::{Space, Standing},
    },
    error::{Error, Reason, Result},
    random,
    storage::{self, Transaction, api_keys::NewApiKey},
};

/// How long a key lives where nothing else is said.
const DEFAULT_LIFE: Duration = Duration::from_hours(90 * 24);

/// What a new key shall be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Slug or id of the space; empty: the caller's.
    pub space: String,
    /// Id or username of the user; empty: the caller.
    pub user: String,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// What it may do; without an expiry, the longest that is usual.
    pub bounds: Bounds,
    /// It shall never expire.
    pub no_expiry: bool,
    /// The owner's own.
    pub labels: BTreeMap<String, String>,
    /// Made switched off.
    pub disabled: bool,
}

/// Makes a key, or answers a retry with the key that was made.
pub async fn create(
    authority: &Authority,
    caller: &Caller,
    wanted: Wanted,
    request: Option<Request>,
) -> Result<Minted> {
    let space = caller.space(authority, &wanted.space).await?;
    let owner = owner(authority, caller, &wanted.user, &space).await?;
    let now = authority.clock.now();
    let mut bounds = wanted.bounds.clone();
    bounds.expire_time = expiry(authority, caller, &wanted, &space, now).await?;
    reach::require_within(authority, caller, &owner, &bounds).await?;
    if let Some(request) = &request
        && let Some(answer) = request.find(authority.db.reader(), now).await?
    {
        let minted = answer_again(authority, &answer).await?;
        require_not_revoked(&minted.key)?;
        return Ok(minted);
    }

    let locks = Locks::default()
        .keep_space(&owner.space.id)
        .keep_user(&owner.user.id);
    let change = Change::begin(authority, Some(caller), locks).await?;
    let (transaction, now) = (&change.transaction, change.now);
    let owner = owner_now(transaction, &owner).await?;
    let seed = random::bytes::<32>()?;
    let id = ApiKeyId::random()?;
    let master_key = authority.master_keys.first();
    let token = derive_token(master_key, &space.key_prefix, &id, 1, &seed)?;
    let key = NewApiKey {
        id: &id,
        owner: &owner,
        display_name: &wanted.display_name,
        description: &wanted.description,
        bounds: &bounds,
        labels: &wanted.labels,
        disabled: wanted.disabled,
    };
    storage::api_keys::insert(transaction, &key, now).await?;
    storage::api_keys::insert_secret(transaction, &id, 1, &token.digest(), now).await?;
    if let Some(request) = request {
        let made = serde_json::json!({ "api_key_id": id, "secret": 1 });
        let seed = Some(seed);
        let answer = Answer { made, seed };
        request.remember(transaction, answer, now).await?;
    }
    let whose = ("user_id", owner.user.id.as_str());
    change
        .audit("api_key.create", &space.id, id.as_str(), &[whose])
        .await?;
    change.commit_alone().await?;
    authority.credentials.note_made(&id);
    Ok(Minted {
        key: described(authority, &id).await?,
        token,
    })
}

/// The user whom the key will speak for. NOT_FOUND where the caller may not make keys for it.
async fn owner(
    authority: &Authority,
    caller: &Caller,
    named: &str,
    space: &Space,
) -> Result<Standing> {
    let owner = caller.user_in(authority, named, &space.id).await?;
    let own = owner.user.id == *caller.user_id() && space.id == *caller.space_id();
    if own {
        if !caller.may(permission::API_KEYS_WRITE, &space.id) {
            caller.require(permission::SELF, &space.id)?;
        }
    } else if !caller.may(permission::API_KEYS_WRITE, &space.id) {
        return Err(Error::withheld("user", owner.user.id.as_str()));
    }
    Ok(owner)
}

/// The owner as it stands once its rows are locked: it may have been deleted or lost its roles meanwhile.
async fn owner_now(transaction: &Transaction, owner: &Standing) -> Result<Standing> {
    let (user, space) = (owner.user.id.named(), owner.space.id.named());
    storage::standing::standing(transaction, &user, Some(&space))
        .await?
        .filter(Standing::acts_here)
        .ok_or_else(|| Error::not_found("user"))
}

async fn expiry(
    authority: &Authority,
    caller: &Caller,
    wanted: &Wanted,
    space: &Space,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let longest = space.max_api_key_ttl.map(|ttl| now + ttl);
    if wanted.no_expiry || wanted.bounds.expire_time.is_some() {
        check_expiry(wanted.bounds.expire_time, longest, now)?;
        return Ok(wanted.bounds.expire_time);
    }
    let own_end = reach::own_end(authority, caller).await?;
    Ok([Some(now + DEFAULT_LIFE), longest, own_end]
        .into_iter()
        .flatten()
        .min())
}

/// INVALID_ARGUMENT for an expiry that is past, or later than the space allows.
pub(super) fn check_expiry(
    expiry: Option<Timestamp>,
    longest: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    match (expiry, longest) {
        (Some(expiry), _) if expiry <= now => {
            Err(Error::field("api_key.expire_time", "must be in the future"))
        }
        (Some(expiry), Some(longest)) if expiry > longest => Err(Error::field(
            "api_key.expire_time",
            "is later than the space allows",
        )),
        (None, Some(_)) => Err(Error::field(
            "api_key.expire_time",
            "is required in this space",
        )),
        _ => Ok(()),
    }
}

/// The same key and the same secret as the first time.
pub(super) async fn answer_again(authority: &Authority, answer: &Answer) -> Result<Minted> {
    let broken = || Error::internal("a remembered answer cannot be read");
    let id = ApiKeyId::known(answer.made["api_key_id"].as_str().ok_or_else(broken)?);
    let number = answer.made["secret"].as_i64().ok_or_else(broken)?;
    let seed = answer.seed.ok_or_else(broken)?;
    let key = described(authority, &id).await?;
    if number != key.current_secret {
        return Err(Error::new(
            Reason::ConcurrentModification,
            "the key was rotated since",
        ));
    }
    let token = derived_before(authority, &key, &seed).await?;
    Ok(Minted { key, token })
}

/// The current secret, made of `seed` again under the master key that it was made under: the first one may have been another.
async fn derived_before(
    authority: &Authority,
    key: &ApiKey,
    seed: &[u8; 32],
) -> Result<ApiKeyToken> {
    let number = key.current_secret;
    let stored = storage::api_keys::load(authority.db.reader(), &key.id).await?;
    let secrets = stored.map(|stored| stored.secrets).unwrap_or_default();
    let secret = secrets.iter().find(|secret| secret.number == number);
    for master_key in authority.master_keys.iter() {
        let token = derive_token(master_key, &key.prefix, &key.id, number, seed)?;
        if secret.is_some_and(|secret| secret.digest == token.digest()) {
            return Ok(token);
        }
    }
    Err(Error::internal(
        "a secret was made under a master key that is not configured",
    ))
}

/// A key that is known to be there.
pub(super) async fn described(authority: &Authority, id: &ApiKeyId) -> Result<ApiKey> {
    storage::api_keys::describe(authority.db.reader(), id)
        .await?
        .ok_or_else(|| Error::not_found("api_key"))
}
