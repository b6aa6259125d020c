//! What was done, by whom, to what. A change is written down in the transaction that makes it ([`record`]), a refusal soon
//! after it was told ([`refusals`]). [`keeping`] makes the chain of it, [`list`] shows it, [`verify`] finds what somebody has
//! changed since.

pub mod keeping;
pub mod list;
pub mod refusals;
pub mod verify;

use super::{Call, caller::Caller, keyring::master_keys::MasterKeys};
use crate::{
    clock::Timestamp,
    domain::{
        audit::{Event, HeadKey, Outcome},
        ids::{ApiKeyId, AuditEventId, SpaceId, UserId},
    },
    error::Result,
    storage::{self, Transaction},
};

/// One thing done.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    /// What, for example `api_key.rotate`.
    pub action: &'static str,
    /// In which space; none: in the authority as a whole.
    pub space: Option<&'a SpaceId>,
    /// To what: an id.
    pub resource: &'a str,
    /// A few words more, never a secret.
    pub details: &'a [(&'a str, &'a str)],
}

/// By whom.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The user; none where nobody was known.
    pub user: Option<&'a UserId>,
    /// The API key by which it came.
    pub api_key: Option<&'a ApiKeyId>,
    /// The call it came with; none for the authority itself.
    pub call: Option<&'a Call>,
}

impl<'a> Actor<'a> {
    /// The authority itself.
    pub const ITSELF: Self = Self {
        user: None,
        api_key: None,
        call: None,
    };

    /// Whoever called.
    pub fn caller(caller: &'a Caller) -> Self {
        Self {
            user: Some(caller.user_id()),
            api_key: caller.api_key_id(),
            call: Some(&caller.call),
        }
    }
}

/// Writes it down.
pub async fn record(
    transaction: &Transaction,
    actor: Actor<'_>,
    done: Done<'_>,
    now: Timestamp,
) -> Result<()> {
    let event = event(actor, done, now)?;
    storage::audit::insert(transaction, &[&event]).await
}

/// What is to be written down.
pub fn event(actor: Actor<'_>, done: Done<'_>, now: Timestamp) -> Result<Event> {
    let words = done.details.iter().filter(|(_, value)| !value.is_empty());
    Ok(Event {
        id: AuditEventId::new(now)?,
        event_time: now,
        space_id: done.space.cloned(),
        actor_user_id: actor.user.cloned(),
        actor_api_key_id: actor.api_key.cloned(),
        action: done.action.to_owned(),
        resource_id: done.resource.to_owned(),
        outcome: Outcome::Success,
        error_reason: String::new(),
        client_address: actor
            .call
            .map(|call| call.client_address.clone())
            .unwrap_or_default(),
        request_id: actor
            .call
            .map(|call| call.request_id.clone())
            .unwrap_or_default(),
        details: words
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    })
}

/// The key that seals the end of the chain, out of the first master key; it knows those of the others.
pub fn head_key(master_keys: &MasterKeys) -> Result<HeadKey> {
    const PURPOSE: &str = "audit head";
    let mut key = HeadKey::new(&*master_keys.first().derive(PURPOSE)?);
    for other in master_keys.others() {
        key = key.knows(&*other.derive(PURPOSE)?);
    }
    Ok(key)
}
