//! The revocation log as it is remembered: what writers append, what the sequencer moves, what readers follow.
//!
//! On PostgreSQL a writer inserts into `revocation_inbox` in its own transaction, and [`sequence`] gives the rows their
//! places afterwards, so that no writer waits for another and no position is ever seen before a smaller one. On SQLite the
//! one writer appends to `revocation_log` itself.

mod page;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};

use super::{
    Engine,
    statement::{engine_of, execute, statement},
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

/// Appends a decision in the caller's transaction, and says how it is dated.
///
/// Where the clock stands behind the newest entry, the decision is dated as that one is, and is remembered as long from there:
/// what it kills may have been issued before the clock was set back.
pub async fn append(
    db: &impl ConnectionTrait,
    event_id: &EventId,
    decision: &Decision,
    create_time: Timestamp,
    forget_time: Timestamp,
) -> Result<Timestamp> {
    let (table, later) = match engine_of(db) {
        Engine::Sqlite => ("revocation_log", "max"),
        Engine::Postgres => ("revocation_inbox", "greatest"),
    };
    let (subject_kind, subject_id) = decision.subject.kind_and_id();
    let newest = "(SELECT coalesce(max(create_time), 0) FROM
                   (SELECT create_time FROM revocation_log ORDER BY position DESC LIMIT 1) AS newest)";
    let sql = format!(
        "INSERT INTO {table} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7,
             {later}($8, {newest}), {later}($8, {newest}) + $9, $10) RETURNING create_time"
    );
    let remembered = i64::try_from(forget_time.since(create_time).as_micros()).unwrap_or(i64::MAX);
    let values: [Value; 10] = [
        event_id.as_str().into(),
        kind_column(decision.kind).into(),
        subject_kind.into(),
        subject_id.into(),
        decision
            .space_id
            .as_ref()
            .map_or("", SpaceId::as_str)
            .into(),
        decision.sessions_until.map(Timestamp::micros).into(),
        decision.effective_time.map(Timestamp::micros).into(),
        create_time.micros().into(),
        remembered.into(),
        i16::try_from(decision.reason as i32)
            .unwrap_or_default()
            .into(),
    ];
    let row = db.query_one_raw(statement(db, sql, values)).await?;
    let row = row.ok_or_else(|| Error::internal("an entry was not appended"))?;
    Ok(Timestamp::from_micros(row.try_get("", "create_time")?))
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

/// Takes a turn until the transaction is over; false where another server has it. It only saves work: nothing is wrong where two
/// do the same.
pub async fn take_turn(db: &impl ConnectionTrait, turn: Turn) -> Result<bool> {
    if engine_of(db) == Engine::Sqlite {
        return Ok(true);
    }
    // `sequence` and `forget` in ASCII.
    let lock: i64 = match turn {
        Turn::Sequence => 0x7365_7175_656e_6365,
        Turn::Forget => 0x666f_7267_6574,
    };
    let sql = "SELECT pg_try_advisory_xact_lock($1) AS taken";
    let row = db.query_one_raw(statement(db, sql, [lock.into()])).await?;
    let taken: Option<bool> = row.map(|row| row.try_get("", "taken")).transpose()?;
    Ok(taken.unwrap_or_default())
}

/// Whether a committed row waits in the inbox; `low` as in [`sequence`].
pub async fn is_waiting(db: &impl ConnectionTrait, low: i64) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM revocation_inbox WHERE xid >= $1) AS waiting";
    let row = db.query_one_raw(statement(db, sql, [low.into()])).await?;
    let waiting: Option<bool> = row.map(|row| row.try_get("", "waiting")).transpose()?;
    Ok(waiting.unwrap_or_default())
}

/// Moves up to `limit` committed rows from the inbox to the log, at the places after its head, and says how many.
///
/// `low` bounds the scan past rows that are long gone; every row with a smaller `xid` must have been moved before.
/// Two that do this at once cannot both succeed: the primary key is on the position.
pub async fn sequence(db: &impl ConnectionTrait, low: i64, limit: u32) -> Result<u64> {
    let sql = format!(
        "WITH next AS (SELECT xid, inbox_id FROM revocation_inbox WHERE xid >= $1 ORDER BY xid, inbox_id LIMIT $2),
         taken AS (DELETE FROM revocation_inbox i USING next WHERE i.xid = next.xid AND i.inbox_id = next.inbox_id
                   RETURNING i.*)
         INSERT INTO revocation_log (position, {COLUMNS})
         SELECT (SELECT coalesce(max(position), 0) FROM revocation_log) + row_number() OVER (ORDER BY xid, inbox_id),
                {COLUMNS} FROM taken"
    );
    let values: [Value; 2] = [low.into(), i64::from(limit).into()];
    let moved = db.execute_raw(statement(db, sql, values)).await?;
    Ok(moved.rows_affected())
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
    let (subject_kind, subject_id) = subject.kind_and_id();
    let condition = "subject_kind = $1 AND subject_id = $2 AND space_id = $3 AND kind = 1 \
                     AND sessions_until IS NULL AND effective_time IS NULL AND create_time >= $4";
    let space = space.map_or("", SpaceId::as_str);
    let values = vec![
        subject_kind.into(),
        subject_id.into(),
        space.into(),
        since.micros().into(),
    ];
    find_where(db, condition, values).await
}

/// The entry with this id, with or without a place.
pub async fn find_event(db: &impl ConnectionTrait, event_id: &EventId) -> Result<Option<Found>> {
    find_where(db, "event_id = $1", vec![event_id.as_str().into()]).await
}

async fn find_where(
    db: &impl ConnectionTrait,
    condition: &str,
    values: Vec<Value>,
) -> Result<Option<Found>> {
    let mut sql = format!(
        "SELECT event_id, position, create_time, reason FROM revocation_log WHERE {condition}"
    );
    if engine_of(db) == Engine::Postgres {
        // One statement, one snapshot: what is being moved is seen in one place or the other.
        sql = format!(
            "SELECT event_id, NULL::bigint AS position, create_time, reason FROM revocation_inbox WHERE {condition}
             UNION ALL {sql}"
        );
    }
    sql.push_str(" ORDER BY create_time LIMIT 1");
    let Some(row) = db.query_one_raw(statement(db, sql, values)).await? else {
        return Ok(None);
    };
    Ok(Some(Found {
        event_id: EventId::known(row.try_get::<String>("", "event_id")?),
        position: row.try_get::<Option<i64>>("", "position")?.map(place),
        create_time: Timestamp::from_micros(row.try_get("", "create_time")?),
        reason: reason(row.try_get("", "reason")?),
    }))
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
