//! Statements that are written out, with their values beside them. Both engines take `$1`.

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::Engine;
use crate::error::Result;

/// Which engine a connection is of.
pub(super) fn engine_of(db: &impl ConnectionTrait) -> Engine {
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

/// Waits for all that keep a row from being ended, and keeps others from it until the transaction is over.
pub(super) async fn lock_exclusively(
    db: &impl ConnectionTrait,
    table: &str,
    column: &str,
    id: &str,
) -> Result<()> {
    if engine_of(db) == Engine::Postgres {
        let sql = format!("SELECT 1 FROM {table} WHERE {column} = $1 FOR UPDATE");
        db.query_one_raw(statement(db, sql, [id.into()])).await?;
    }
    Ok(())
}

/// The same for all rows with a value, in an order that all keep to.
pub(super) async fn lock_rows_exclusively(
    db: &impl ConnectionTrait,
    table: &str,
    column: &str,
    value: &str,
    order: &str,
) -> Result<()> {
    if engine_of(db) == Engine::Postgres {
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {column} = $1 ORDER BY {order} FOR UPDATE) locked"
        );
        db.query_one_raw(statement(db, sql, [value.into()])).await?;
    }
    Ok(())
}

/// Keeps a row from being ended until the transaction is over. `SQLite` has one writer, which is the transaction.
pub(super) async fn lock_shared(
    db: &impl ConnectionTrait,
    table: &str,
    column: &str,
    id: &str,
) -> Result<()> {
    if engine_of(db) == Engine::Postgres {
        let sql = format!("SELECT 1 FROM {table} WHERE {column} = $1 FOR SHARE");
        db.query_one_raw(statement(db, sql, [id.into()])).await?;
    }
    Ok(())
}
