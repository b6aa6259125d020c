//! Makes a prepared key the one that signs.

use super::ceremony::Ceremony;
use crate::{
    authority::{Authority, caller::Caller},
    domain::{ids::SigningKeyId, signing_key::SigningKeyDescription},
    error::Result,
    log::WaitUntil,
};

/// Activates; the key before stays published until its last token has expired, and another one is prepared where none is left.
/// `FAILED_PRECONDITION/SIGNING_KEY_STATE` for a key that is not prepared, or too new and not forced.
pub async fn activate(
    authority: &Authority,
    caller: &Caller,
    id: &SigningKeyId,
    force: bool,
    until: WaitUntil,
) -> Result<SigningKeyDescription> {
    let mut ceremony = Ceremony::begin(authority, Some(caller)).await?;
    let key = ceremony.find(id).await?;
    let active = ceremony.activate(&key, force).await?;
    ceremony.keep_one_prepared().await?;
    ceremony.change.commit(until).await?;
    Ok(active)
}
