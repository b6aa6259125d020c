//! The revocation log as it is remembered: what writers append, what the sequencer moves, what readers follow.
//!
//! On PostgreSQL a writer inserts into `revocation_inbox` in its own transaction, and [`sequence`] gives the rows their
//! places afterwards, so that no writer waits for another and no position is ever seen before a smaller one. On SQLite the
//! one writer appends to `revocation_log` itself.

mod append;
mod find;
mod page;
mod sequence;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};

use super::{
    Engine,
    statement::{engine_of, statement},
};
use crate::{
    clock::Timestamp,
    domain::{
        ids::{ApiKeyId, EventId, RoleName, SessionId, SigningKeyId, SpaceId, TokenId, UserId},
        revocation::{Decision, Entry, Kind, Position, Reason, Subject},
    },
    error::Result,
};

pub use self::{
    append::{Appended, append, append_at, dated},
    find::{Found, Target, find, find_each, find_event},
    sequence::{Sequenced, Turn, oldest_running_transaction, sequence, take_turn},
};

const COLUMNS: &str = "event_id, kind, subject_kind, subject_id, space_id, sessions_until, effective_time, create_time, \
                       forget_time, reason";

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

/// What there is in the log, by its dates.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Until when the oldest entry is in force, and every other one at least as long.
    pub oldest_forget_time: Timestamp,
    /// When the newest one was decided.
    pub newest_create_time: Timestamp,
    /// Until when it is in force: no other one for longer.
    pub newest_forget_time: Timestamp,
}

/// The dates of both ends; none where there is no entry.
pub async fn times(db: &impl ConnectionTrait) -> Result<Option<Times>> {
    let at = |end| format!("position = (SELECT {end}(position) FROM revocation_log)");
    let sql = format!(
        "SELECT oldest.forget_time AS oldest_forget_time, newest.create_time, newest.forget_time
         FROM (SELECT * FROM revocation_log WHERE {}) AS oldest,
              (SELECT * FROM revocation_log WHERE {}) AS newest",
        at("min"),
        at("max")
    );
    let Some(row) = db.query_one_raw(statement(db, sql, [])).await? else {
        return Ok(None);
    };
    let time = |column| row.try_get("", column).map(Timestamp::from_micros);
    Ok(Some(Times {
        oldest_forget_time: time("oldest_forget_time")?,
        newest_create_time: time("create_time")?,
        newest_forget_time: time("forget_time")?,
    }))
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
