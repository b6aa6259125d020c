//! How many sign-ins failed, by name and by network.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Value};

use super::{
    entity::sign_in_failures::{Column, Entity, Model},
    statement::{execute, statement, unless_locked},
};
use crate::{
    clock::Timestamp,
    domain::throttle::Tally,
    error::{Error, Result},
};

/// What is known of a subject; nothing where there is no row.
pub async fn find(db: &impl ConnectionTrait, subjects: &[String]) -> Result<Vec<(String, Tally)>> {
    let found = Entity::find()
        .filter(Column::Subject.is_in(subjects))
        .all(db)
        .await?;
    Ok(found.into_iter().map(known).collect())
}

/// What is known of a subject, with its row locked until the transaction is over. The row is made where there is none.
pub async fn lock(db: &impl ConnectionTrait, subject: &str) -> Result<Tally> {
    // An update that changes nothing locks the row and reads it, at once and on either engine.
    let sql = "INSERT INTO sign_in_failures \
               (subject, window_start, failures, open, last_booking_time) VALUES ($1, 0, 0, 0, 0) \
               ON CONFLICT (subject) DO UPDATE SET subject = excluded.subject RETURNING *";
    let row = Entity::find()
        .from_raw_sql(statement(db, sql, [subject.into()]))
        .one(db)
        .await?;
    let row = row.ok_or_else(|| Error::internal("a row that was just made is missing"))?;
    Ok(known(row).1)
}

/// Writes down what is known of a subject, whose row is locked.
pub async fn put(db: &impl ConnectionTrait, subject: &str, tally: &Tally) -> Result<()> {
    let sql = "UPDATE sign_in_failures SET window_start = $1, failures = $2, \
               last_failure_time = $3, open = $4, last_booking_time = $5 WHERE subject = $6";
    let last_failure: Value = tally.last_failure.map(Timestamp::micros).into();
    let values = [
        tally.window_start.micros().into(),
        count(tally.failures).into(),
        last_failure,
        count(tally.open).into(),
        tally.last_booking.micros().into(),
        subject.into(),
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// Forgets what is known of a subject.
pub async fn clear(db: &impl ConnectionTrait, subject: &str) -> Result<()> {
    let sql = "DELETE FROM sign_in_failures WHERE subject = $1";
    execute(db, sql, [subject.into()]).await?;
    Ok(())
}

/// Forgets up to `limit` subjects whose count began before `before`.
pub async fn forget(db: &impl ConnectionTrait, before: Timestamp, limit: u32) -> Result<u64> {
    // One that is being counted anew is left out, and not waited for.
    let free = unless_locked(db, "sign_in_failures");
    let sql = format!(
        "DELETE FROM sign_in_failures WHERE window_start < $1 AND subject IN
         (SELECT subject FROM sign_in_failures WHERE window_start < $1 LIMIT $2 {free})"
    );
    execute(db, sql, [before.micros().into(), i64::from(limit).into()]).await
}

fn known(row: Model) -> (String, Tally) {
    let tally = Tally {
        window_start: Timestamp::from_micros(row.window_start),
        failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
        last_failure: row.last_failure_time.map(Timestamp::from_micros),
        open: u32::try_from(row.open).unwrap_or(u32::MAX),
        last_booking: Timestamp::from_micros(row.last_booking_time),
    };
    (row.subject, tally)
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
