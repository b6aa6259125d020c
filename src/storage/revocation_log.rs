//! The revocation log as it is remembered: what writers append, what the sequencer moves, what readers follow.
//!
//! On PostgreSQL a writer inserts into `revocation_inbox` in its own transaction, and [`sequence`] gives the rows their
//! places afterwards, so that no writer waits for another and no position is ever seen before a smaller one. On SQLite the
//! one writer appends to `revocation_log` itself.

mod page;

use std::{collections::HashMap, time::Duration};

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};

use super::{
    Engine,
    authority::TIMELINE_NOW,
    listener::CHANNEL,
    statement::{engine_of, execute, given_rows, statement},
};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{ApiKeyId, EventId, RoleName, SessionId, SigningKeyId, SpaceId, TokenId, UserId},
        revocation::{Decision, Entry, Kind, Position, Reason, Subject},
    },
    error::{Error, Result},
};

const COLUMNS: &str = "event_id, kind, subject_kind, subject_id, space_id, sessions_until, effective_time, create_time, \
                       forget_time, reason";

/// What is to be appended: a decision under the id of its entry.
pub type Appended<'a> = (&'a EventId, &'a Decision);

/// Appends decisions in the caller's transaction, in order, and says how they are dated.
///
/// Where the clock stands behind the newest entry, they are dated as that one is, and are remembered as long from there: what
/// they kill may have been issued before the clock was set back.
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
    let newest = "(SELECT coalesce(max(create_time), 0) FROM
                   (SELECT create_time FROM revocation_log ORDER BY position DESC LIMIT 1) AS newest)";
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
    let sql = format!(
        "INSERT INTO {table} ({COLUMNS})
         SELECT event_id, kind, subject_kind, subject_id, space_id, sessions_until, effective_time,
                {later}($2, {newest}), {later}($2, {newest}) + $3, reason FROM {given} RETURNING create_time"
    );
    let rows: Vec<serde_json::Value> = appended.iter().map(as_json).collect();
    let remembered = i64::try_from(remembered.as_micros()).unwrap_or(i64::MAX);
    let values: [Value; 3] = [
        serde_json::Value::from(rows).to_string().into(),
        create_time.micros().into(),
        remembered.into(),
    ];
    let rows = db.query_all_raw(statement(db, sql, values)).await?;
    if rows.len() != appended.len() {
        return Err(Error::internal("an entry was not appended"));
    }
    let dated = rows.first().map(|row| row.try_get("", "create_time"));
    Ok(dated
        .transpose()?
        .map_or(create_time, Timestamp::from_micros))
}

fn as_json((event_id, decision): &Appended<'_>) -> serde_json::Value {
    let (subject_kind, subject_id) = decision.subject.kind_and_id();
    serde_json::json!({
        "event_id": event_id.as_str(),
        "kind": kind_column(decision.kind),
        "subject_kind": subject_kind,
        "subject_id": subject_id,
        "space_id": decision.space_id.as_ref().map_or("", SpaceId::as_str),
        "sessions_until": decision.sessions_until.map(Timestamp::micros),
        "effective_time": decision.effective_time.map(Timestamp::micros),
        "reason": decision.reason as i32,
    })
}

/// Writes an entry at a place of its own: the first one of a log that begins anew.
pub async fn append_at(
    db: &impl ConnectionTrait,
    position: Position,
    event_id: &EventId,
    decision: &Decision,
    create_time: Timestamp,
    forget_time: Timestamp,
) -> Result<()> {
    let (subject_kind, subject_id) = decision.subject.kind_and_id();
    let sql = "INSERT INTO revocation_log \
               (position, event_id, kind, subject_kind, subject_id, create_time, forget_time, reason) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
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

/// What one server at a time does for all.
#[derive(Debug, Clone, Copy)]
pub enum Turn {
    /// Moving rows from the inbox to the log.
    Sequence,
    /// Forgetting the oldest entries.
    Forget,
}

impl Turn {
    /// Its name in ASCII.
    fn lock(self) -> i64 {
        match self {
            Self::Sequence => 0x7365_7175_656e_6365,
            Self::Forget => 0x666f_7267_6574,
        }
    }
}

/// Takes a turn until the transaction is over; false where another server has it. It only saves work: nothing is wrong where two
/// do the same.
pub async fn take_turn(db: &impl ConnectionTrait, turn: Turn) -> Result<bool> {
    if engine_of(db) == Engine::Sqlite {
        return Ok(true);
    }
    let sql = "SELECT pg_try_advisory_xact_lock($1) AS taken";
    let row = db
        .query_one_raw(statement(db, sql, [turn.lock().into()]))
        .await?;
    let taken: Option<bool> = row.map(|row| row.try_get("", "taken")).transpose()?;
    Ok(taken.unwrap_or_default())
}

/// What came of [`sequence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequenced {
    /// So many rows were moved. Where there may be others: all up to those of the transaction `through` were.
    Moved { rows: u64, through: Option<i64> },
    /// Another server has the turn.
    NotOurTurn,
    /// PostgreSQL is on another timeline than the log was: it may have lost its end, and nothing is moved.
    OtherTimeline,
}

/// Moves up to `limit` committed rows from the inbox to the log, at the places after its head, and tells every listener. One
/// statement, and a transaction of its own: nobody can be stopped in the middle of it.
///
/// `low` bounds the scan past rows that are long gone; every row with a smaller `xid` must have been moved before.
/// `ABORTED/CONCURRENT_MODIFICATION` where another server did the same at the same moment: the primary key is on the position.
pub async fn sequence(db: &impl ConnectionTrait, low: i64, limit: u32) -> Result<Sequenced> {
    let sql = format!(
        "WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($3) AS taken),
         known AS MATERIALIZED (SELECT timeline = {TIMELINE_NOW} AS same FROM authority WHERE authority_id = 1),
         next AS (SELECT xid, inbox_id FROM revocation_inbox
                  WHERE xid >= $1 AND (SELECT taken FROM turn) AND (SELECT same FROM known)
                  ORDER BY xid, inbox_id LIMIT $2),
         taken AS (DELETE FROM revocation_inbox i USING next WHERE i.xid = next.xid AND i.inbox_id = next.inbox_id
                   RETURNING i.*),
         placed AS (INSERT INTO revocation_log (position, {COLUMNS})
                    SELECT (SELECT coalesce(max(position), 0) FROM revocation_log) + row_number() OVER (ORDER BY xid, inbox_id),
                           {COLUMNS} FROM taken
                    RETURNING position)
         SELECT (SELECT taken FROM turn) AS taken, coalesce((SELECT same FROM known), false) AS same,
                (SELECT count(*) FROM next) AS seen, (SELECT max(xid) FROM next) AS through, count(*) AS moved,
                CASE WHEN count(*) > 0 THEN pg_notify($4, '')::text END AS told
         FROM placed"
    );
    let values: [Value; 4] = [
        low.into(),
        i64::from(limit).into(),
        Turn::Sequence.lock().into(),
        CHANNEL.into(),
    ];
    let row = db.query_one_raw(statement(db, sql, values)).await?;
    let row = row.ok_or_else(|| Error::internal("the sequencer was told nothing"))?;
    if !row.try_get::<bool>("", "taken")? {
        return Ok(Sequenced::NotOurTurn);
    }
    if !row.try_get::<bool>("", "same")? {
        return Ok(Sequenced::OtherTimeline);
    }
    let (seen, moved): (i64, i64) = (row.try_get("", "seen")?, row.try_get("", "moved")?);
    Ok(Sequenced::Moved {
        rows: u64::try_from(moved).unwrap_or_default(),
        // By what was seen, not by what was moved: rows that another server had just moved were seen as well, and others may
        // have been behind them.
        through: row
            .try_get::<Option<i64>>("", "through")?
            .filter(|_| seen == i64::from(limit)),
    })
}

/// The smallest transaction id that may still be running: rows of smaller ones are all visible, or gone.
pub async fn oldest_running_transaction(db: &impl ConnectionTrait) -> Result<i64> {
    let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xid";
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    Ok(row
        .map(|row| row.try_get("", "xid"))
        .transpose()?
        .unwrap_or_default())
}

/// The place of the newest entry; 0 where there is none.
pub async fn head(db: &impl ConnectionTrait) -> Result<Position> {
    position(
        db,
        "SELECT coalesce(max(position), 0) AS position FROM revocation_log",
    )
    .await
}

/// The place before the oldest entry that is still remembered.
pub async fn floor(db: &impl ConnectionTrait) -> Result<Position> {
    position(
        db,
        "SELECT coalesce(min(position), 1) - 1 AS position FROM revocation_log",
    )
    .await
}

async fn position(db: &impl ConnectionTrait, sql: &str) -> Result<Position> {
    let row = db.query_one_raw(statement(db, sql, [])).await?;
    let position: Option<i64> = row.map(|row| row.try_get("", "position")).transpose()?;
    Ok(Position(
        u64::try_from(position.unwrap_or_default()).unwrap_or_default(),
    ))
}

/// Up to `limit` entries from `first` on, in order.
pub async fn read(db: &impl ConnectionTrait, first: Position, limit: u32) -> Result<Vec<Entry>> {
    let first = i64::try_from(first.0).unwrap_or(i64::MAX);
    let values: [Value; 2] = [first.into(), i64::from(limit).into()];
    let row = db
        .query_one_raw(statement(db, page::sql(), values.clone()))
        .await?;
    let Some(row) = row else {
        return Ok(Vec::new());
    };
    let count: i64 = row.try_get("", "entries")?;
    let text: Option<String> = row.try_get("", "page")?;
    let count = usize::try_from(count).unwrap_or_default();
    if let Some(entries) = page::parse(text.as_deref().unwrap_or_default(), count) {
        return Ok(entries);
    }
    let sql = format!(
        "SELECT position, {COLUMNS} FROM revocation_log WHERE position >= $1 ORDER BY position LIMIT $2"
    );
    let rows = Row::find_by_statement(statement(db, sql, values))
        .all(db)
        .await?;
    Ok(rows.into_iter().map(Entry::from).collect())
}

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
    let from = |table, position| {
        format!(
            "SELECT number, event_id, {position} AS position, create_time, reason
             FROM {given} JOIN {table} USING (subject_id, subject_kind, space_id)
             WHERE kind = 1 AND sessions_until IS NULL AND effective_time IS NULL AND create_time >= $2"
        )
    };
    let mut sql = from("revocation_log", "position");
    if engine_of(db) == Engine::Postgres {
        let inbox = from("revocation_inbox", "NULL::bigint");
        sql = format!("{inbox} UNION ALL {sql}");
    }
    let wanted = targets
        .iter()
        .enumerate()
        .map(|(number, (subject, space))| {
            let (subject_kind, subject_id) = subject.kind_and_id();
            serde_json::json!({
                "number": number,
                "subject_kind": subject_kind,
                "subject_id": subject_id,
                "space_id": space.map_or("", SpaceId::as_str),
            })
        });
    let wanted = wanted.collect::<serde_json::Value>().to_string();
    let values: [Value; 2] = [wanted.into(), since.micros().into()];
    let rows = db.query_all_raw(statement(db, sql, values)).await?;
    let mut first: HashMap<usize, Found> = HashMap::new();
    for row in &rows {
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

/// Entries above `position`, and on PostgreSQL those that have no place yet, which are given `u64::MAX`: what a transaction
/// must judge its caller by once it holds the caller's rows.
pub async fn since(db: &impl ConnectionTrait, position: Position) -> Result<Vec<Entry>> {
    let first = i64::try_from(position.next().0).unwrap_or(i64::MAX);
    let mut sql = format!("SELECT position, {COLUMNS} FROM revocation_log WHERE position >= $1");
    if engine_of(db) == Engine::Postgres {
        sql = format!(
            "SELECT {} AS position, {COLUMNS} FROM revocation_inbox UNION ALL {sql}",
            i64::MAX
        );
    }
    let rows = Row::find_by_statement(statement(db, sql, [first.into()]))
        .all(db)
        .await?;
    Ok(rows.into_iter().map(Entry::from).collect())
}

/// Forgets up to `limit` of the oldest entries, all of them decided before `until`; never the newest one.
pub async fn forget(db: &impl ConnectionTrait, until: Timestamp, limit: u32) -> Result<u64> {
    let sql = "DELETE FROM revocation_log WHERE position IN (
                   SELECT position FROM revocation_log
                   WHERE position < (SELECT coalesce(min(position), (SELECT max(position) FROM revocation_log))
                                     FROM revocation_log WHERE create_time >= $1)
                   ORDER BY position LIMIT $2)";
    let values: [Value; 2] = [until.micros().into(), i64::from(limit).into()];
    Ok(db
        .execute_raw(statement(db, sql, values))
        .await?
        .rows_affected())
}

#[derive(Debug, FromQueryResult)]
struct Row {
    position: i64,
    event_id: String,
    kind: i16,
    subject_kind: String,
    subject_id: String,
    space_id: String,
    sessions_until: Option<i64>,
    effective_time: Option<i64>,
    create_time: i64,
    forget_time: i64,
    reason: i16,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        Self {
            event_id: EventId::known(row.event_id),
            position: place(row.position),
            decision: Decision {
                kind: kind(row.kind),
                subject: subject(&row.subject_kind, &row.subject_id),
                space_id: (!row.space_id.is_empty()).then(|| SpaceId::known(row.space_id)),
                sessions_until: row.sessions_until.map(Timestamp::from_micros),
                effective_time: row.effective_time.map(Timestamp::from_micros),
                reason: reason(row.reason),
            },
            create_time: Timestamp::from_micros(row.create_time),
            forget_time: Timestamp::from_micros(row.forget_time),
        }
    }
}

fn place(position: i64) -> Position {
    Position(u64::try_from(position).unwrap_or_default())
}

fn reason(column: i16) -> Reason {
    Reason::try_from(i32::from(column)).unwrap_or_default()
}

/// One that is not known counts as a revocation.
fn kind(column: i16) -> Kind {
    if column == kind_column(Kind::Change) {
        Kind::Change
    } else {
        Kind::Revocation
    }
}

/// As the contract numbers them.
fn kind_column(kind: Kind) -> i16 {
    match kind {
        Kind::Revocation => 1,
        Kind::Change => 2,
    }
}

fn subject(kind: &str, id: &str) -> Subject {
    match kind {
        "token" => Subject::Token(TokenId::known(id)),
        "session" => Subject::Session(SessionId::known(id)),
        "user" => Subject::User(UserId::known(id)),
        "api_key" => Subject::ApiKey(ApiKeyId::known(id)),
        "role" => Subject::Role(RoleName::known(id)),
        "space" => Subject::Space(SpaceId::known(id)),
        "signing_key" => Subject::SigningKey(SigningKeyId::known(id)),
        "everything" => Subject::Everything,
        _ => Subject::Unknown,
    }
}
