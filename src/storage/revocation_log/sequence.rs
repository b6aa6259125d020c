//! How rows of the inbox get their places (PostgreSQL).

use sea_orm::{ConnectionTrait, Value};

use super::COLUMNS;
use crate::{
    error::{Error, Result},
    storage::{
        Engine,
        authority::TIMELINE_NOW,
        listener::CHANNEL,
        statement::{engine_of, statement},
    },
};

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

/// Until when an entry is in force: at least as long as all before it.
const IN_FORCE_AS_LONG: &str =
    "greatest((SELECT forget_time FROM revocation_log ORDER BY position DESC LIMIT 1),
                                         max(forget_time) OVER (ORDER BY xid, inbox_id))";

/// Moves up to `limit` committed rows from the inbox to the log, at the places after its head, and tells every listener. One
/// statement, and a transaction of its own: nobody can be stopped in the middle of it.
///
/// None is in force for less long than one before it, whichever was decided first, so that what is forgotten is the beginning of
/// the log and nothing else.
///
/// `low` bounds the scan past rows that are long gone; every row with a smaller `xid` must have been moved before.
/// `ABORTED/CONCURRENT_MODIFICATION` where another server did the same at the same moment: the primary key is on the position.
pub async fn sequence(db: &impl ConnectionTrait, low: i64, limit: u32) -> Result<Sequenced> {
    let written = COLUMNS.replace("forget_time", IN_FORCE_AS_LONG);
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
                           {written} FROM taken
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
