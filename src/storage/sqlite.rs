//! How a SQLite file is opened: one connection that writes, several that read.

use std::path::Path;

use sea_orm::{
    SqlxSqliteConnector,
    sqlx::{
        ConnectOptions, Connection, SqliteConnection,
        pool::PoolOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};
use tokio_util::task::TaskTracker;

use super::{
    DatabaseSettings, Statements,
    database_file::cannot_use,
    pool::{Pool, Recipe},
};
use crate::error::{Error, Result};

/// Rows that a query gets ready before it waits for somebody to take them: a whole batch, so that the thread is woken once.
const ROWS_AHEAD: usize = 1000;

/// What the writer keeps of the file in memory once it was used, 16 MiB: the ends of tables and indexes, into which it writes.
const CACHED: &str = "-16384";

/// UNAVAILABLE where there is no such file: whoever only reads makes none.
pub(super) fn require_file(path: &Path) -> Result<()> {
    // It is not opened: SQLite would lose its locks on it when it is closed again.
    let found = std::fs::metadata(path);
    found.map(drop).map_err(|error| cannot_use(path, error))
}

/// The one connection that writes. A second one would only wait for it.
pub(super) async fn writer(
    path: &Path,
    settings: &DatabaseSettings,
    statements: &Statements,
    tasks: &TaskTracker,
) -> Result<Pool> {
    let options = options(path, settings)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", CACHED);
    let pool = pool_options(1, settings)
        .connect_with(options)
        .await
        .map_err(|error| {
            let cause = super::error::from_sqlx(error);
            Error::new(
                cause.reason(),
                format!("cannot open the database {}", path.display()),
            )
            .because(cause)
        })?;
    let mut connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
    statements.count_those_of(&mut connection);
    Ok(Pool::new(connection, None, tasks))
}

/// So many connections that read what is committed while the writer writes, and cannot write themselves.
pub(super) fn readers(
    path: &Path,
    connections: u32,
    settings: &DatabaseSettings,
    statements: &Statements,
    tasks: &TaskTracker,
) -> Pool {
    let options = options(path, settings).pragma("query_only", "ON");
    let pool = pool_options(connections, settings).connect_lazy_with(options);
    let mut connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
    statements.count_those_of(&mut connection);
    Pool::new(connection, None::<Recipe>, tasks)
}

fn options(path: &Path, settings: &DatabaseSettings) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(settings.lock_timeout)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging()
}

/// A connection on which a ROLLBACK failed is given up: SQLite rolls back by itself where the disk is full, `sqlx` then
/// counts one transaction too many on it for ever, and would open the next one as a mere savepoint.
///
/// A future dropped during BEGIN needs no care here: the connection's thread sees that nobody took its answer, and rolls back
/// before it takes the next command.
fn pool_options(connections: u32, settings: &DatabaseSettings) -> SqlitePoolOptions {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.acquire_timeout)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(|connection: &mut SqliteConnection, _| {
            let usable = !connection.is_in_transaction();
            Box::pin(std::future::ready(Ok(usable)))
        })
}
