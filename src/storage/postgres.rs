//! How a PostgreSQL database is opened.
//!
//! The pool looks after its connections when they are taken, not by a background task: `sqlx` 0.9.0 counts idle connections
//! so that the number can pass below zero for a moment, and its task would then go round 2⁶⁴ times.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    ConnectionTrait as _, SqlxPostgresConnector,
    sqlx::{
        self, ConnectOptions, Connection, PgConnection, PgPool,
        pool::{PoolConnectionMetadata, PoolOptions},
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::task::TaskTracker;

use super::{
    DatabaseSettings, Statements,
    error::from_sqlx,
    pool::{Pool, Recipe},
    statement::statement,
};
use crate::error::{Error, Reason, Result};

const OLDEST_VERSION: u32 = 13_00_00;

/// A server's process collects memory over its life, and a new one may be behind the same name.
const LIFE: Duration = Duration::from_mins(30);

/// Firewalls forget connections that are silent for longer, without telling.
const SILENCE: Duration = Duration::from_mins(5);

/// A pool of connections to the database at `url`, one of which is opened now.
pub(super) async fn pool(
    url: &SecretString,
    settings: &DatabaseSettings,
    statements: &Statements,
    tasks: &TaskTracker,
) -> Result<Pool> {
    let options = connect_options(url, settings, settings.statement_timeout)?;
    let pool_options = pool_options(settings);
    let statements = statements.clone();
    let open = Arc::new(move || {
        let pool = pool_options.clone().connect_lazy_with(options.clone());
        let mut connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
        statements.count_those_of(&mut connection);
        connection
    });
    // Outside the pool, which tries until its time is up and does not say what was wrong.
    let outside = connect(url, settings).await?;
    outside.close().await.map_err(from_sqlx)?;
    let connection = open();
    let first = connection.get_postgres_connection_pool().acquire().await;
    drop(first.map_err(from_sqlx)?);
    let recipe = Recipe {
        open,
        patience: patience(settings),
    };
    Ok(Pool::new(connection, Some(recipe), tasks))
}

/// The same pool without a guard against silence: for who only waits.
pub(super) fn sqlx_pool(url: &SecretString, settings: &DatabaseSettings) -> Result<PgPool> {
    let options = connect_options(url, settings, settings.statement_timeout)?;
    Ok(pool_options(settings).connect_lazy_with(options))
}

/// A connection outside every pool, which is not opened anew when it is lost.
pub(super) async fn connect(
    url: &SecretString,
    settings: &DatabaseSettings,
) -> Result<PgConnection> {
    let options = connect_options(url, settings, settings.statement_timeout)?;
    let connecting = PgConnection::connect_with(&options);
    let mut connection = tokio::time::timeout(settings.acquire_timeout, connecting)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(|error| cannot_reach(&options, from_sqlx(error)))?;
    require_supported(&mut connection)?;
    Ok(connection)
}

/// How long to wait for an answer: longer than the server itself lets a statement take, the wait for a connection included.
pub(super) fn patience(settings: &DatabaseSettings) -> Duration {
    settings.acquire_timeout + settings.statement_timeout + Duration::from_secs(1)
}

/// INTERNAL for a URL that is none, without a word of it, and for one that names no database: PostgreSQL would take one that is
/// called like the user.
pub(super) fn parse(url: &SecretString) -> Result<PgConnectOptions> {
    let options: Option<PgConnectOptions> = url.expose_secret().parse().ok();
    options
        .filter(|options| options.get_database().is_some_and(|name| !name.is_empty()))
        .ok_or_else(|| {
            Error::internal(
                "the database URL is not of the form postgres://user:password@host/database",
            )
        })
}

fn connect_options(
    url: &SecretString,
    settings: &DatabaseSettings,
    statement_timeout: Duration,
) -> Result<PgConnectOptions> {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    Ok(parse(url)?
        .application_name(&settings.application_name)
        .options([
            // Each statement sees what is committed when it begins: what judges a caller anew relies on that.
            ("default_transaction_isolation", "read committed".to_owned()),
            ("statement_timeout", milliseconds(statement_timeout)),
            ("lock_timeout", milliseconds(settings.lock_timeout)),
            (
                "idle_in_transaction_session_timeout",
                milliseconds(settings.idle_in_transaction_timeout),
            ),
            (
                "default_transaction_read_only",
                settings.read_only.to_string(),
            ),
            // A plan that was made while a table was small is kept while the table grows: look-ups are by an index from the
            // beginning, and none of them is worth compiling.
            ("enable_seqscan", "off".to_owned()),
            ("jit", "off".to_owned()),
        ])
        .disable_statement_logging())
}

fn pool_options(settings: &DatabaseSettings) -> PgPoolOptions {
    PoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.acquire_timeout)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(|connection, _| Box::pin(begin_session(connection)))
        .before_acquire(|connection, age| {
            let usable = is_usable(connection, &age);
            Box::pin(std::future::ready(Ok(usable)))
        })
}

/// Whether an idle connection is taken; otherwise it is closed and another one opened. Costs no round trip.
fn is_usable(connection: &PgConnection, age: &PoolConnectionMetadata) -> bool {
    !connection.is_in_transaction() && age.age < LIFE && age.idle_for < SILENCE
}

/// A standby lags behind: nothing may be decided by what it says. And what is acknowledged here must outlive a crash there: where
/// commits would not wait for that, those of this session do. A stricter setting stays as it is.
async fn begin_session(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "SELECT pg_is_in_recovery(), CASE current_setting('synchronous_commit') \
               WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END";
    let standby: bool = sqlx::query_scalar(sql).fetch_one(connection).await?;
    if standby {
        return Err(sqlx::Error::Protocol("the server is a standby".to_owned()));
    }
    Ok(())
}

/// A server that does not wait for its disk forgets in a crash what it has acknowledged.
pub(super) async fn warn_where_crashes_lose(pool: &Pool) -> Result<()> {
    let sql = "SELECT current_setting('fsync') = 'off' AS loses";
    let row = pool.query_one_raw(statement(pool, sql, [])).await?;
    if row.is_some_and(|row| row.try_get("", "loses").unwrap_or(false)) {
        tracing::warn!(
            "PostgreSQL runs with fsync = off: a crash of its machine loses what it has acknowledged"
        );
    }
    Ok(())
}

fn require_supported(connection: &mut PgConnection) -> Result<()> {
    match connection.server_version_num() {
        Some(version) if version < OLDEST_VERSION => Err(Error::internal(format!(
            "PostgreSQL 13 or newer is needed; the server is version {}",
            version / 10_000
        ))),
        Some(_) | None => Ok(()),
    }
}

fn cannot_reach(options: &PgConnectOptions, cause: Error) -> Error {
    let (host, port) = (options.get_host(), options.get_port());
    let message = format!("cannot reach the database at {host}:{port}");
    Error::new(Reason::DatabaseUnavailable, message)
        .retry_after(super::error::RETRY_AFTER)
        .because(cause)
}
