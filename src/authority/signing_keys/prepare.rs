//! Makes a key and publishes it, ahead of the time when it may sign.

use super::ceremony::Ceremony;
use crate::{
    authority::{Authority, caller::Caller},
    domain::{jwt::Algorithm, signing_key::SigningKeyDescription},
    error::Result,
    log::WaitUntil,
};

/// Prepares a key; by the configured algorithm where none is asked for. `FAILED_PRECONDITION/SIGNING_KEY_STATE` where 16 are
/// prepared already.
pub async fn prepare(
    authority: &Authority,
    caller: &Caller,
    algorithm: Option<Algorithm>,
    until: WaitUntil,
) -> Result<SigningKeyDescription> {
    let mut ceremony = Ceremony::begin(authority, Some(caller)).await?;
    let algorithm = algorithm.unwrap_or(authority.signing_keys.algorithm);
    let prepared = ceremony.prepare(algorithm).await?;
    ceremony.change.commit(until).await?;
    Ok(prepared)
}
