//! Statements that are written out, with their values beside them. Both engines take `$1`.

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use serde::Serialize;

use super::Engine;
use crate::error::{Error, Result};

/// Which engine a connection is of.
pub fn engine_of(db: &impl ConnectionTrait) -> Engine {
    match db.get_database_backend() {
        DbBackend::Sqlite => Engine::Sqlite,
        _ => Engine::Postgres,
    }
}

pub(super) fn statement(
    db: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(db.get_database_backend(), sql, values)
}

/// Runs a statement, and says how many rows it touched.
pub(super) async fn execute(
    db: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64> {
    Ok(db
        .execute_raw(statement(db, sql, values))
        .await?
        .rows_affected())
}

/// Rows that are handed over as one JSON value, `$1`, to be selected from as `given`: the statement is the same however many
/// there are. Each column has a name and PostgreSQL's word for its type; `SQLite` takes what the value is.
pub(super) fn given_rows(db: &impl ConnectionTrait, columns: &[(&str, &str)]) -> String {
    let listed = |column: fn(&(&str, &str)) -> String| {
        let columns: Vec<String> = columns.iter().map(column).collect();
        columns.join(", ")
    };
    match engine_of(db) {
        Engine::Sqlite => {
            let read = listed(|(name, _)| format!("value ->> '{name}' AS {name}"));
            format!("(SELECT {read} FROM jsonb_each($1)) AS given")
        }
        Engine::Postgres => {
            let typed = listed(|(name, kind)| format!("{name} {kind}"));
            format!("json_to_recordset($1::json) AS given ({typed})")
        }
    }
}

/// The value of [`given_rows`]: each row has a field for each column.
pub(super) fn rows(rows: &[impl Serialize]) -> Result<Value> {
    let rows = serde_json::to_string(rows);
    let rows = rows.map_err(|error| Error::internal("rows cannot be written").because(error))?;
    Ok(rows.into())
}

/// How a row is locked until the transaction is over. `SQLite` has one writer, which is the transaction: it locks nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowLock {
    /// Keeps it from being ended.
    Shared,
    /// Waits for all that keep it from being ended, and keeps others from it.
    Exclusive,
}

impl RowLock {
    fn clause(self) -> &'static str {
        match self {
            Self::Shared => "FOR SHARE",
            Self::Exclusive => "FOR UPDATE",
        }
    }

    /// Takes a place in the queue for what has this id. Who shares a row passes by whoever waits to have it alone, and could keep
    /// it from them for ever; a queue lets nobody pass.
    fn queue(self) -> &'static str {
        match self {
            Self::Shared => "pg_advisory_xact_lock_shared(hashtextextended($1, 0))",
            Self::Exclusive => "pg_advisory_xact_lock(hashtextextended($1, 0))",
        }
    }
}

/// Ends a query for rows of `table` to be updated: those that somebody else has locked are left out, so that nobody is waited
/// for.
pub(super) fn unless_locked(db: &impl ConnectionTrait, table: &str) -> String {
    match engine_of(db) {
        Engine::Sqlite => String::new(),
        Engine::Postgres => format!("FOR UPDATE OF {table} SKIP LOCKED"),
    }
}

/// Locks the row whose `column` is `id`, in the order in which that is asked for.
pub(super) async fn lock_row(
    db: &impl ConnectionTrait,
    table: &str,
    column: &str,
    id: &str,
    lock: RowLock,
) -> Result<()> {
    let (queue, clause) = (lock.queue(), lock.clause());
    let sql = format!("SELECT 1 FROM {table} WHERE {column} = $1 AND {queue} IS NOT NULL {clause}");
    lock_selected(db, sql, id).await
}

/// Locks all rows with a value exclusively, in an order that all keep to.
pub(super) async fn lock_rows_exclusively(
    db: &impl ConnectionTrait,
    table: &str,
    column: &str,
    value: &str,
    order: &str,
) -> Result<()> {
    let clause = RowLock::Exclusive.clause();
    let rows = format!("SELECT 1 FROM {table} WHERE {column} = $1 ORDER BY {order} {clause}");
    lock_selected(db, format!("SELECT count(*) FROM ({rows}) locked"), value).await
}

async fn lock_selected(db: &impl ConnectionTrait, sql: String, value: &str) -> Result<()> {
    if engine_of(db) == Engine::Postgres {
        db.query_one_raw(statement(db, sql, [value.into()])).await?;
    }
    Ok(())
}
