//! What was revoked already.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, QueryResult, Value};
use serde::Serialize;

use super::{place, reason};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{EventId, SpaceId},
        revocation::{Position, Reason, Subject},
    },
    error::Result,
    storage::{
        Engine,
        statement::{engine_of, given_rows, rows, statement},
    },
};

/// What was revoked already, where it still waits for its place or stands in the log.
#[derive(Debug, Clone)]
pub struct Found {
    /// The entry's id.
    pub event_id: EventId,
    /// Its place; none while it waits for one.
    pub position: Option<Position>,
    /// When it was decided.
    pub create_time: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// The first entry that revokes `subject` in `space`, at once and sparing none, decided at `since` or later.
pub async fn find(
    db: &impl ConnectionTrait,
    subject: &Subject,
    space: Option<&SpaceId>,
    since: Timestamp,
) -> Result<Option<Found>> {
    let mut found = find_each(db, &[(subject, space)], since).await?;
    Ok(found.remove(&0))
}

/// A subject, and the space in which it is revoked.
pub type Target<'a> = (&'a Subject, Option<&'a SpaceId>);

/// The same for many: the first entry of each that has one, by its place in `targets`.
pub async fn find_each(
    db: &impl ConnectionTrait,
    targets: &[Target<'_>],
    since: Timestamp,
) -> Result<HashMap<usize, Found>> {
    let given = given_rows(
        db,
        &[
            ("number", "bigint"),
            ("subject_kind", "text"),
            ("subject_id", "text"),
            ("space_id", "text"),
        ],
    );
    let same = "(entry.subject_id, entry.subject_kind, entry.space_id)
                = (given.subject_id, given.subject_kind, given.space_id)";
    let from = |table, position| {
        let looked_up = match engine_of(db) {
            Engine::Sqlite => format!("JOIN {table} AS entry ON {same}"),
            // Each by itself: a join of that many may read the whole log.
            Engine::Postgres => format!(
                "CROSS JOIN LATERAL (SELECT * FROM {table} AS entry WHERE {same} OFFSET 0) AS entry"
            ),
        };
        format!(
            "SELECT number, event_id, {position} AS position, create_time, reason FROM {given} {looked_up}
             WHERE kind = 1 AND sessions_until IS NULL AND effective_time IS NULL AND create_time >= $2"
        )
    };
    let mut sql = from("revocation_log", "position");
    if engine_of(db) == Engine::Postgres {
        let inbox = from("revocation_inbox", "NULL::bigint");
        sql = format!("{inbox} UNION ALL {sql}");
    }
    let wanted: Vec<Wanted<'_>> = targets
        .iter()
        .enumerate()
        .map(|(number, (subject, space))| {
            let (subject_kind, subject_id) = subject.kind_and_id();
            Wanted {
                number,
                subject_kind,
                subject_id,
                space_id: space.map_or("", SpaceId::as_str),
            }
        })
        .collect();
    let values: [Value; 2] = [rows(&wanted)?, since.micros().into()];
    let found = db.query_all_raw(statement(db, sql, values)).await?;
    let mut first: HashMap<usize, Found> = HashMap::new();
    for row in &found {
        let number: i64 = row.try_get("", "number")?;
        let found = Found::read(row)?;
        let earlier = first.entry(usize::try_from(number).unwrap_or(usize::MAX));
        let kept = earlier.or_insert_with(|| found.clone());
        if found.create_time < kept.create_time {
            *kept = found;
        }
    }
    Ok(first)
}

/// What is looked for, as it is given to the database.
#[derive(Serialize)]
struct Wanted<'a> {
    number: usize,
    subject_kind: &'a str,
    subject_id: &'a str,
    space_id: &'a str,
}

/// The entry with this id, with or without a place.
pub async fn find_event(db: &impl ConnectionTrait, event_id: &EventId) -> Result<Option<Found>> {
    let from = |table, position| {
        format!(
            "SELECT event_id, {position} AS position, create_time, reason FROM {table} WHERE event_id = $1"
        )
    };
    let mut sql = from("revocation_log", "position");
    if engine_of(db) == Engine::Postgres {
        // One statement, one snapshot: what is being moved is seen in one place or the other.
        sql = format!(
            "{} UNION ALL {sql}",
            from("revocation_inbox", "NULL::bigint")
        );
    }
    let values: [Value; 1] = [event_id.as_str().into()];
    let row = db.query_one_raw(statement(db, sql, values)).await?;
    row.as_ref().map(Found::read).transpose()
}

impl Found {
    fn read(row: &QueryResult) -> Result<Self> {
        Ok(Self {
            event_id: EventId::known(row.try_get::<String>("", "event_id")?),
            position: row.try_get::<Option<i64>>("", "position")?.map(place),
            create_time: Timestamp::from_micros(row.try_get("", "create_time")?),
            reason: reason(row.try_get("", "reason")?),
        })
    }
}
