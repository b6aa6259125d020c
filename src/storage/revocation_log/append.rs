//! What writers append.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Value};
use serde::Serialize;

use super::{COLUMNS, kind_column};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{EventId, SpaceId},
        revocation::{Decision, Position},
    },
    error::{Error, Result},
    storage::{
        Engine,
        statement::{engine_of, execute, given_rows, rows, statement},
    },
};

/// What is to be appended: a decision under the id of its entry.
pub type Appended<'a> = (&'a EventId, &'a Decision);

/// The latest time that is known for certain to be over.
const LATEST: &str = "(SELECT coalesce(max(known), 0) FROM (
    SELECT create_time AS known FROM (SELECT create_time FROM revocation_log ORDER BY position DESC LIMIT 1) AS newest
    UNION ALL SELECT latest_time FROM authority WHERE authority_id = 1) AS times)";

/// That time, or `now` where that is later: how an entry that is made now is dated.
pub async fn dated(db: &impl ConnectionTrait, now: Timestamp) -> Result<Timestamp> {
    let sql = format!("SELECT {LATEST} AS latest");
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    let latest = row.map(|row| row.try_get("", "latest")).transpose()?;
    Ok(now.max(Timestamp::from_micros(latest.unwrap_or_default())))
}

/// Appends decisions in the caller's transaction, in order, and says how they are dated.
///
/// Where the clock stands behind the newest entry, or behind what a clock that was believed has told, they are dated as that is,
/// and are remembered as long from there: what they kill may have been issued before the clock was set back.
pub async fn append(
    db: &impl ConnectionTrait,
    appended: &[Appended<'_>],
    create_time: Timestamp,
    remembered: Duration,
) -> Result<Timestamp> {
    let (table, later) = match engine_of(db) {
        Engine::Sqlite => ("revocation_log", "max"),
        Engine::Postgres => ("revocation_inbox", "greatest"),
    };
    let given = given_rows(
        db,
        &[
            ("event_id", "text"),
            ("kind", "smallint"),
            ("subject_kind", "text"),
            ("subject_id", "text"),
            ("space_id", "text"),
            ("sessions_until", "bigint"),
            ("effective_time", "bigint"),
            ("reason", "smallint"),
        ],
    );
    let insert = format!(
        "INSERT INTO {table} ({COLUMNS})
         SELECT event_id, kind, subject_kind, subject_id, space_id, sessions_until, effective_time,
                {later}($2, {LATEST}), {later}($2, {LATEST}) + $3, reason FROM {given}"
    );
    let entries: Vec<Written<'_>> = appended.iter().map(Written::from).collect();
    let remembered = i64::try_from(remembered.as_micros()).unwrap_or(i64::MAX);
    let values: [Value; 3] = [
        rows(&entries)?,
        create_time.micros().into(),
        remembered.into(),
    ];
    let dated = match engine_of(db) {
        Engine::Sqlite => {
            // All are dated alike, and all are written before the first is told of.
            let dated = format!("{insert} RETURNING create_time");
            db.query_one_raw(statement(db, dated, values)).await?
        }
        Engine::Postgres => {
            let dated = format!(
                "WITH appended AS ({insert} RETURNING create_time)
                 SELECT max(create_time) AS create_time FROM appended"
            );
            db.query_one_raw(statement(db, dated, values)).await?
        }
    };
    let dated = dated.ok_or_else(|| Error::internal("nothing was appended"))?;
    Ok(Timestamp::from_micros(dated.try_get("", "create_time")?))
}

/// An entry as it is given to the database.
#[derive(Serialize)]
struct Written<'a> {
    event_id: &'a str,
    kind: i16,
    subject_kind: &'a str,
    subject_id: &'a str,
    space_id: &'a str,
    sessions_until: Option<i64>,
    effective_time: Option<i64>,
    reason: i32,
}

impl<'a> From<&Appended<'a>> for Written<'a> {
    fn from((event_id, decision): &Appended<'a>) -> Self {
        let (subject_kind, subject_id) = decision.subject.kind_and_id();
        Self {
            event_id: event_id.as_str(),
            kind: kind_column(decision.kind),
            subject_kind,
            subject_id,
            space_id: decision.space_id.as_ref().map_or("", SpaceId::as_str),
            sessions_until: decision.sessions_until.map(Timestamp::micros),
            effective_time: decision.effective_time.map(Timestamp::micros),
            reason: decision.reason as i32,
        }
    }
}

/// Writes an entry at a place of its own: the first one of a log that begins anew. It is in force until `forget_time`, and for at
/// least as long as all before it.
pub async fn append_at(
    db: &impl ConnectionTrait,
    position: Position,
    event_id: &EventId,
    decision: &Decision,
    create_time: Timestamp,
    forget_time: Timestamp,
) -> Result<()> {
    let (subject_kind, subject_id) = decision.subject.kind_and_id();
    let later = match engine_of(db) {
        Engine::Sqlite => "max",
        Engine::Postgres => "greatest",
    };
    let sql = format!(
        "INSERT INTO revocation_log
           (position, event_id, kind, subject_kind, subject_id, create_time, forget_time, reason)
         VALUES ($1, $2, $3, $4, $5, $6, {later}($7, coalesce(
           (SELECT forget_time FROM revocation_log ORDER BY position DESC LIMIT 1), 0)), $8)"
    );
    let values: [Value; 8] = [
        i64::try_from(position.0).unwrap_or(i64::MAX).into(),
        event_id.as_str().into(),
        kind_column(decision.kind).into(),
        subject_kind.into(),
        subject_id.into(),
        create_time.micros().into(),
        forget_time.micros().into(),
        i16::try_from(decision.reason as i32)
            .unwrap_or_default()
            .into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
}
