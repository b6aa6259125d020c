//! What is done with API keys, one file a verb; [`reach`] is the rule that a key never lies beyond its maker.

pub mod create;
pub mod reach;
pub mod read;
pub mod revoke;
pub mod rotate;
pub mod update;

use super::{Authority, caller::Caller, keyring::master_key::MasterKey};
use crate::{
    domain::{
        api_key::{ApiKey, ApiKeyToken, KeyPrefix},
        ids::ApiKeyId,
        permission,
    },
    error::{Error, Reason, Result},
    storage,
};

/// `FAILED_PRECONDITION/API_KEY_NOT_ACTIVE` where a key was ended for good.
fn require_not_revoked(key: &ApiKey) -> Result<()> {
    if key.revoke_time.is_none() {
        Ok(())
    } else {
        Err(not_active("revoked"))
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
        f.debug_struct("Minted")
            .field("key", &self.key)
            .finish_non_exhaustive()
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
    Ok(ApiKeyToken::mint(prefix, id.clone(), &material))
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
        ("", None) => {
            return Err(Error::field(
                "api_key_id",
                "is required: the caller came by no key",
            ));
        }
        (named, _) => ApiKeyId::parse(named).ok_or_else(|| Error::not_found("api_key"))?,
    };
    let key = storage::api_keys::describe(authority.db.reader(), &id)
        .await?
        .ok_or_else(|| Error::not_found("api_key"))?;
    let came_by_it = caller.api_key_id() == Some(&key.id) && verb != Verb::Update;
    if came_by_it && key.space_id == *caller.space_id() {
        return Ok(key);
    }
    let scope = if verb == Verb::Read {
        permission::API_KEYS_READ
    } else {
        permission::API_KEYS_WRITE
    };
    if caller.may(scope, &key.space_id) {
        return Ok(key);
    }
    if key.user_id == *caller.user_id() && key.space_id == *caller.space_id() {
        caller.require(permission::SELF, &key.space_id)?;
        return Ok(key);
    }
    Err(Error::withheld("api_key", key.id.as_str()))
}
