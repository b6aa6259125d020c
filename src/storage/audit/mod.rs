//! The audit log: what is written ([`insert`]), how it becomes a chain (`chain`), and what is read of it (`list`).
//!
//! On SQLite events are links of the chain at once: there is one writer. On PostgreSQL each writer would wait for the one before
//! it; events are written into an inbox and chained afterwards. A process that is stopped in between loses nothing: what is in
//! the inbox is chained by the next step.

mod chain;
mod list;

use std::collections::BTreeMap;

use sea_orm::QueryResult;
use serde::Serialize;

use super::{
    Transaction,
    entity::StringMap,
    statement::{execute, given_rows, rows},
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
    chain::{Barred, Ends, begin, chain, ends, is_chained, links, seal},
    list::{Recorded, Wanted, list},
};

/// What there is of an event in the inbox, and beside its place and its digest in the chain.
const COLUMNS: &str = "audit_event_id, event_time, space_id, actor_user_id, actor_api_key_id, action, resource_id, outcome, \
                       error_reason, client_address, request_id, details";

/// What is written of an event at first.
const WRITTEN: &[(&str, &str)] = &[
    ("audit_event_id", "text"),
    ("event_time", "bigint"),
    ("space_id", "text"),
    ("actor_user_id", "text"),
    ("actor_api_key_id", "text"),
    ("action", "text"),
    ("resource_id", "text"),
    ("outcome", "smallint"),
    ("error_reason", "text"),
    ("client_address", "text"),
    ("request_id", "text"),
    ("details", "jsonb"),
];

/// Writes events down: as links of the chain where the transaction knows the key, otherwise into the inbox.
pub async fn insert(transaction: &Transaction, events: &[&Event]) -> Result<()> {
    if let Some(key) = transaction.audit_key()
        && chain::append(transaction, key, events).await?
    {
        return Ok(());
    }
    let given = given_rows(transaction, WRITTEN);
    let sql = format!("INSERT INTO audit_inbox ({COLUMNS}) SELECT {COLUMNS} FROM {given}");
    let written: Vec<Written<'_>> = events.iter().map(|event| Written::from(*event)).collect();
    execute(transaction, sql, [rows(&written)?]).await?;
    Ok(())
}

/// An event as it is given to the database.
#[derive(Serialize)]
struct Written<'a> {
    audit_event_id: &'a str,
    event_time: i64,
    space_id: &'a str,
    actor_user_id: &'a str,
    actor_api_key_id: &'a str,
    action: &'a str,
    resource_id: &'a str,
    outcome: i32,
    error_reason: &'a str,
    client_address: &'a str,
    request_id: &'a str,
    details: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Event> for Written<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            audit_event_id: event.id.as_str(),
            event_time: event.event_time.micros(),
            space_id: event.space_id.as_ref().map_or("", SpaceId::as_str),
            actor_user_id: event.actor_user_id.as_ref().map_or("", UserId::as_str),
            actor_api_key_id: event.actor_api_key_id.as_ref().map_or("", ApiKeyId::as_str),
            action: &event.action,
            resource_id: &event.resource_id,
            outcome: i32::from(event.outcome),
            error_reason: &event.error_reason,
            client_address: &event.client_address,
            request_id: &event.request_id,
            details: &event.details,
        }
    }
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
