//! What was done, by whom, to what: written in the transaction that does it.

use super::{Call, caller::Caller};
use crate::{
    clock::Timestamp,
    domain::ids::{ApiKeyId, AuditEventId, SpaceId, UserId},
    error::Result,
    storage::{self, Transaction},
};

/// One thing done.
#[derive(Debug)]
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
    let row = storage::audit::Row {
        audit_event_id: AuditEventId::new(now)?,
        event_time: now,
        space_id: done.space,
        actor_user_id: actor.user,
        actor_api_key_id: actor.api_key,
        action: done.action,
        resource_id: done.resource,
        client_address: actor.call.map_or("", |call| &call.client_address),
        request_id: actor.call.map_or("", |call| &call.request_id),
        details: done.details,
    };
    storage::audit::insert(transaction, &row).await
}
