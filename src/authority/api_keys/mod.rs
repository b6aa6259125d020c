//! API keys: described without their secret ([`ApiKey`]), and what is done with them, one file a verb.
//!
//! [`record`] is what a presented key is judged by; [`reach`] is the rule that a key never lies beyond its maker.

pub mod create;
pub mod reach;
pub mod read;
pub mod record;
pub mod revoke;
pub mod rotate;
pub mod update;

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Authority, caller::Caller, keyring::master_key::MasterKey};
use crate::{
    clock::Timestamp,
    domain::{
        api_key::{ApiKeyToken, KeyPrefix},
        ids::{ApiKeyId, RoleName, SpaceId, UserId},
        permission::{self, PermissionSet},
    },
    error::{Error, Reason, Result},
    storage,
};

/// An API key without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// The public half.
    pub id: ApiKeyId,
    /// The space it belongs to.
    pub space_id: SpaceId,
    /// The user it speaks for.
    pub user_id: UserId,
    /// What it begins with.
    pub prefix: String,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// What it may do, and until when.
    pub bounds: Bounds,
    /// The owner's own.
    pub labels: BTreeMap<String, String>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Which secret is the current one, counted from 1.
    pub current_secret: i64,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it was ended, by itself or with all the keys of its user or space.
    pub revoke_time: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_use_time: Option<Timestamp>,
    /// From where.
    pub last_use_address: Option<String>,
    /// Until when the secret before the current one is good.
    pub previous_secret_expire_time: Option<Timestamp>,
    /// When that one was last used.
    pub previous_secret_last_use_time: Option<Timestamp>,
}

/// What narrows a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Act with these roles alone; empty: all.
    pub roles: Vec<RoleName>,
    /// Allow these scopes alone; empty: all that are granted but this service's own.
    pub scopes: PermissionSet,
    /// Good for these audiences alone; empty: any.
    pub audiences: Vec<String>,
    /// Good from these networks alone; empty: any.
    pub allowed_cidrs: Vec<IpNet>,
    /// When it stops being good; none: never.
    pub expire_time: Option<Timestamp>,
}

/// Where a key stands, as the contract numbers it.
pub use crate::proto::ApiKeyState as State;

impl ApiKey {
    /// Where it stands at `now`.
    pub fn state(&self, now: Timestamp) -> State {
        if self.revoke_time.is_some() {
            State::Revoked
        } else if self.bounds.expire_time.is_some_and(|expiry| now >= expiry) {
            State::Expired
        } else if self.disabled {
            State::Disabled
        } else {
            State::Active
        }
    }

    /// FAILED_PRECONDITION/API_KEY_NOT_ACTIVE where it was ended for good.
    pub fn require_not_revoked(&self) -> Result<()> {
        if self.revoke_time.is_none() { Ok(()) } else { Err(not_active("revoked")) }
    }
}

fn not_active(state: &'static str) -> Error {
    Error::new(Reason::ApiKeyNotActive, format!("the key is {state}"))
}

/// A key with the whole of it, to be shown once. Debug hides the token.
pub struct Minted {
    /// The key's description.
    pub key: ApiKey,
    /// The whole key.
    pub token: ApiKeyToken,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The key of a secret: derived from random bytes under the master key, so that it can be derived again for a lost answer.
fn derive_token(
    master_key: &MasterKey,
    prefix: &str,
    id: &ApiKeyId,
    number: i64,
    seed: &[u8; 32],
) -> Result<ApiKeyToken> {
    let prefix = KeyPrefix::parse(prefix, "key_prefix")?;
    let material = master_key.expand(seed, format!("api key {id} {number}").as_bytes())?;
    ApiKeyToken::mint(prefix, id.clone(), &material)
}

/// What a caller wants of a key that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// See it.
    Read,
    /// Change it.
    Update,
    /// Give it a new secret, or end it.
    RotateOrRevoke,
}

/// The key that a request names, or the one that the caller came by. NOT_FOUND where it does not exist or the caller may not
/// know of it.
async fn named(authority: &Authority, caller: &Caller, named: &str, verb: Verb) -> Result<ApiKey> {
    let id = match (named, caller.api_key_id()) {
        ("", Some(own)) => own.clone(),
        ("", None) => return Err(Error::field("api_key_id", "is required: the caller came by no key")),
        (named, _) => ApiKeyId::parse(named).ok_or_else(|| Error::not_found("api_key"))?,
    };
    let key = storage::api_keys::describe(&authority.db.reader(), &id)
        .await?
        .ok_or_else(|| Error::not_found("api_key"))?;
    let came_by_it = caller.api_key_id() == Some(&key.id) && verb != Verb::Update;
    if came_by_it && key.space_id == *caller.space_id() {
        return Ok(key);
    }
    let scope = if verb == Verb::Read { permission::API_KEYS_READ } else { permission::API_KEYS_WRITE };
    if caller.may(scope, &key.space_id) {
        return Ok(key);
    }
    if key.user_id == *caller.user_id() && key.space_id == *caller.space_id() {
        caller.require(permission::SELF, &key.space_id)?;
        return Ok(key);
    }
    Err(Error::not_found("api_key"))
}
