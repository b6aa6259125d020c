//! The audit log: what is written ([`insert`]), how it becomes a chain (`chain`), and what is read of it (`list`).

mod chain;
mod list;

use std::collections::BTreeMap;

use sea_orm::{EntityTrait, IntoActiveModel, QueryResult};

use super::{
    Transaction,
    entity::{StringMap, audit_events},
};
use crate::{
    clock::Timestamp,
    domain::{
        audit::{Digest, Event, Head, Link, Outcome},
        ids::{ApiKeyId, AuditEventId, SpaceId, UserId},
    },
    error::Result,
};

pub use self::{
    chain::{Chained, Ends, chain, ends, is_chained, links},
    list::{Recorded, Wanted, list},
};

const COLUMNS: &str = "audit_event_id, event_time, space_id, actor_user_id, actor_api_key_id, action, resource_id, outcome, \
                       error_reason, client_address, request_id, details, sequence, digest";

/// Writes an event down. It becomes a link of the chain when the transaction is committed, on PostgreSQL soon after.
pub async fn insert(transaction: &Transaction, event: &Event) -> Result<()> {
    let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
    let details: serde_json::Map<String, serde_json::Value> = event
        .details
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    let model = audit_events::Model {
        audit_event_id: event.id.to_string(),
        event_time: event.event_time.micros(),
        space_id: text(event.space_id.as_ref().map(SpaceId::as_str)),
        actor_user_id: text(event.actor_user_id.as_ref().map(UserId::as_str)),
        actor_api_key_id: text(event.actor_api_key_id.as_ref().map(ApiKeyId::as_str)),
        action: event.action.clone(),
        resource_id: event.resource_id.clone(),
        outcome: i16::try_from(i32::from(event.outcome)).unwrap_or_default(),
        error_reason: event.error_reason.clone(),
        client_address: event.client_address.clone(),
        request_id: event.request_id.clone(),
        details: details.into(),
        sequence: None,
        digest: None,
    };
    audit_events::Entity::insert(model.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    transaction.note_audit_event();
    Ok(())
}

/// A row as it was found, which somebody may have tampered with: a column that cannot be read harms that column alone.
struct Row {
    event: Event,
    sequence: Option<i64>,
    digest: Option<Vec<u8>>,
    /// Whether every column could be read.
    whole: bool,
}

impl Row {
    fn read(row: &QueryResult) -> Self {
        let mut columns = Columns { row, whole: true };
        let outcome = Outcome::try_from(i32::from(columns.read::<i16>("outcome")));
        let event = Event {
            id: AuditEventId::known(columns.text("audit_event_id")),
            event_time: Timestamp::from_micros(columns.read("event_time")),
            space_id: columns.name("space_id").map(SpaceId::known),
            actor_user_id: columns.name("actor_user_id").map(UserId::known),
            actor_api_key_id: columns.name("actor_api_key_id").map(ApiKeyId::known),
            action: columns.text("action"),
            resource_id: columns.text("resource_id"),
            outcome: outcome.unwrap_or_default(),
            error_reason: columns.text("error_reason"),
            client_address: columns.text("client_address"),
            request_id: columns.text("request_id"),
            details: columns.details(),
        };
        Self {
            event,
            sequence: columns.read("sequence"),
            digest: columns.read("digest"),
            whole: columns.whole && outcome.is_ok(),
        }
    }

    fn place(&self) -> Option<u64> {
        self.sequence
            .and_then(|sequence| u64::try_from(sequence).ok())
    }

    fn known_digest(&self) -> Option<Digest> {
        self.digest.as_deref().and_then(Digest::known)
    }

    fn recorded(self) -> Recorded {
        let link = self.place().zip(self.known_digest());
        Recorded {
            link: link.map(|(sequence, digest)| Head { sequence, digest }),
            event: self.event,
        }
    }

    fn link(self) -> Link {
        Link {
            id: self.event.id.clone(),
            sequence: self.place(),
            digest: self.known_digest(),
            event: self.whole.then_some(self.event),
        }
    }
}

struct Columns<'a> {
    row: &'a QueryResult,
    whole: bool,
}

impl Columns<'_> {
    fn read<T: sea_orm::TryGetable + Default>(&mut self, column: &str) -> T {
        self.row.try_get("", column).unwrap_or_else(|_| {
            self.whole = false;
            T::default()
        })
    }

    fn text(&mut self, column: &str) -> String {
        self.read(column)
    }

    /// An empty text stands for no name.
    fn name(&mut self, column: &str) -> Option<String> {
        Some(self.text(column)).filter(|text| !text.is_empty())
    }

    fn details(&mut self) -> BTreeMap<String, String> {
        self.read::<Option<StringMap>>("details")
            .unwrap_or_else(|| {
                self.whole = false;
                StringMap::default()
            })
            .0
    }
}
