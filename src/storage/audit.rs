//! The audit log.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};

use super::entity::audit_events;
use crate::{
    clock::Timestamp,
    domain::ids::{ApiKeyId, AuditEventId, SpaceId, UserId},
    error::Result,
};

/// One thing done.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its id.
    pub audit_event_id: AuditEventId,
    /// When.
    pub event_time: Timestamp,
    /// In which space; none: in the authority as a whole.
    pub space_id: Option<&'a SpaceId>,
    /// By whom.
    pub actor_user_id: Option<&'a UserId>,
    /// The API key by which the actor came.
    pub actor_api_key_id: Option<&'a ApiKeyId>,
    /// What.
    pub action: &'a str,
    /// To what.
    pub resource_id: &'a str,
    /// From where.
    pub client_address: &'a str,
    /// As in the log.
    pub request_id: &'a str,
    /// A few words more.
    pub details: &'a [(&'a str, &'a str)],
}

/// As the contract numbers it: done.
const SUCCESS: i16 = 1;

/// Writes it down.
pub async fn insert(db: &impl ConnectionTrait, row: &Row<'_>) -> Result<()> {
    let details: serde_json::Map<String, serde_json::Value> = row
        .details
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    let model = audit_events::Model {
        audit_event_id: row.audit_event_id.to_string(),
        event_time: row.event_time.micros(),
        space_id: row.space_id.map(ToString::to_string).unwrap_or_default(),
        actor_user_id: row
            .actor_user_id
            .map(ToString::to_string)
            .unwrap_or_default(),
        actor_api_key_id: row
            .actor_api_key_id
            .map(ToString::to_string)
            .unwrap_or_default(),
        action: row.action.to_owned(),
        resource_id: row.resource_id.to_owned(),
        outcome: SUCCESS,
        error_reason: String::new(),
        client_address: row.client_address.to_owned(),
        request_id: row.request_id.to_owned(),
        details: details.into(),
        sequence: None,
        digest: None,
    };
    audit_events::Entity::insert(model.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}
