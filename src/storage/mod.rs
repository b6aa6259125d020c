//! Where it is remembered: the only folder that names `sea_orm` and `sqlx`.
//!
//! The door is [`Database`]: it reads through a [`Pool`] and writes through a [`Transaction`]; both are taken by queries as
//! `&impl ConnectionTrait`. Nothing is written outside a transaction but by [`revocation_log::sequence`], which is one by itself.
//!
//! In reading order: `settings`, `database_file` (whose the SQLite file is), `sqlite` and `postgres` (how each engine is
//! opened), `pool` (connections that can be replaced), `transaction`, `session_lock`, `listener`, `migrate`, `error`, `entity`
//! (one file a table).

pub mod api_keys;
pub mod audit;
pub mod authority;
mod database_file;
pub mod entity;
mod error;
pub mod idempotency_keys;
pub mod last_use;
mod listener;
mod migrate;
mod pool;
mod postgres;
pub mod replica_leases;
pub mod revocation_log;
pub mod roles;
pub mod rotated_tokens;
mod session_lock;
mod settings;
pub mod sign_in_failures;
pub mod signing_keys;
pub mod spaces;
mod sqlite;
pub mod standing;
mod statement;
mod transaction;
pub mod users;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::task::TaskTracker;

pub use sea_orm::ConnectionTrait;

use self::database_file::DatabaseFile;
pub use self::{
    error::{unavailable, violated_constraint},
    listener::{Listener, announce},
    migrate::{MigrationState, migrate_up, migration_status, require_current_schema},
    pool::{Pool, PoolUse},
    session_lock::SessionLock,
    settings::{DatabaseLocation, DatabaseSettings},
    statement::engine_of,
    transaction::Transaction,
};
use crate::{
    domain::audit::HeadKey,
    error::{Error, Result},
};

/// What works through a connection of its own is the better for knowing soon that it is dead.
const DEDICATED_ACQUIRE: Duration = Duration::from_secs(1);
const DEDICATED_STATEMENT: Duration = Duration::from_secs(2);

/// Connections that read a SQLite file.
const READERS: u32 = 4;

/// How long closing waits for connections to come back.
const CLOSING: Duration = Duration::from_secs(5);

/// Which database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One file, one process.
    Sqlite,
    /// A server, any number of replicas.
    Postgres,
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    engine: Engine,
    settings: DatabaseSettings,
    readers: Pool,
    writers: Pool,
    /// To be closed before the others: whoever closes the last one of a SQLite file tidies up, and must be able to write.
    dedicated: Mutex<Vec<Pool>>,
    statements: Statements,
    tasks: TaskTracker,
    audit_key: OnceLock<HeadKey>,
    /// Where everything is, on SQLite. Held for as long as the database is open.
    file: Option<Arc<DatabaseFile>>,
}

impl Database {
    /// Opens the database; the schema is left as it is.
    ///
    /// UNAVAILABLE where it cannot be reached or another process has it, INTERNAL where it cannot be used.
    pub async fn open(settings: &DatabaseSettings) -> Result<Self> {
        let statements = Statements::default();
        let tasks = TaskTracker::new();
        let inner = match &settings.location {
            DatabaseLocation::Sqlite(path) => {
                let file = DatabaseFile::take(path)?;
                let path = file.path();
                let writers = sqlite::writer(path, settings, &statements, &tasks).await?;
                let readers = sqlite::readers(path, READERS, settings, &statements, &tasks);
                Inner {
                    engine: Engine::Sqlite,
                    settings: settings.clone(),
                    readers,
                    writers,
                    dedicated: Mutex::default(),
                    statements,
                    tasks,
                    audit_key: OnceLock::new(),
                    file: Some(Arc::new(file)),
                }
            }
            DatabaseLocation::Postgres(url) => {
                let pool = postgres::pool(url, settings, &statements, &tasks).await?;
                postgres::warn_where_crashes_lose(&pool).await?;
                Inner {
                    engine: Engine::Postgres,
                    settings: settings.clone(),
                    readers: pool.clone(),
                    writers: pool,
                    dedicated: Mutex::default(),
                    statements,
                    tasks,
                    audit_key: OnceLock::new(),
                    file: None,
                }
            }
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Opens a database for reading alone, while a server may run on it; it must exist. What is begun on it cannot write.
    pub async fn open_read_only(settings: &DatabaseSettings) -> Result<Self> {
        let mut settings = settings.clone();
        settings.read_only = true;
        let statements = Statements::default();
        let tasks = TaskTracker::new();
        let pool = match &settings.location {
            DatabaseLocation::Sqlite(path) => {
                sqlite::require_file(path)?;
                sqlite::readers(path, READERS, &settings, &statements, &tasks)
            }
            DatabaseLocation::Postgres(url) => {
                postgres::pool(url, &settings, &statements, &tasks).await?
            }
        };
        let engine = match &settings.location {
            DatabaseLocation::Sqlite(_) => Engine::Sqlite,
            DatabaseLocation::Postgres(_) => Engine::Postgres,
        };
        Ok(Self(Arc::new(Inner {
            engine,
            settings,
            readers: pool.clone(),
            writers: pool,
            dedicated: Mutex::default(),
            statements,
            tasks,
            audit_key: OnceLock::new(),
            file: None,
        })))
    }

    /// From now on audit events are chained under `key`: on SQLite as they are written.
    pub fn chain_audit_events(&self, key: HeadKey) {
        // It is the same key every time: the database has one master key for as long as it is open.
        let _already = self.0.audit_key.set(key);
    }

    /// The key under which audit events are chained.
    pub fn audit_key(&self) -> Option<&HeadKey> {
        self.0.audit_key.get()
    }

    /// Which engine it is.
    pub fn engine(&self) -> Engine {
        self.0.engine
    }

    /// For reading. On SQLite these connections cannot write.
    pub fn reader(&self) -> &Pool {
        &self.0.readers
    }

    /// Begins a transaction. On SQLite it holds the write lock from the start (BEGIN IMMEDIATE).
    pub async fn begin(&self) -> Result<Transaction> {
        let transaction = self.0.writers.begin().await?;
        let audit_key = match self.0.engine {
            Engine::Sqlite => self.0.audit_key.get().cloned(),
            // Writers would wait for each other: events are chained afterwards.
            Engine::Postgres => None,
        };
        Ok(transaction
            .in_file(self.0.file.clone())
            .chaining_under(audit_key))
    }

    /// Whether what is written goes where the next start will look for it. On PostgreSQL that is the server's affair.
    pub fn is_in_place(&self) -> bool {
        self.0.file.as_ref().is_none_or(|file| file.is_in_place())
    }

    /// A connection of its own. On PostgreSQL it is called `name` in `pg_stat_activity`, and opened anew when it is lost; a
    /// statement on it may take 2 seconds, and a transaction do nothing for `idle_in_transaction`. On SQLite it only reads.
    pub async fn dedicated(&self, name: &str, idle_in_transaction: Duration) -> Result<Pool> {
        let (statements, tasks) = (&self.0.statements, &self.0.tasks);
        let mut settings = self.0.settings.clone();
        name.clone_into(&mut settings.application_name);
        settings.max_connections = 1;
        settings.acquire_timeout = settings.acquire_timeout.min(DEDICATED_ACQUIRE);
        settings.statement_timeout = settings.statement_timeout.min(DEDICATED_STATEMENT);
        settings.idle_in_transaction_timeout = idle_in_transaction;
        let pool = match &settings.location {
            DatabaseLocation::Sqlite(path) => {
                let path = self.0.file.as_ref().map_or(path.as_path(), |it| it.path());
                sqlite::readers(path, 1, &settings, statements, tasks)
            }
            DatabaseLocation::Postgres(url) => {
                postgres::pool(url, &settings, statements, tasks).await?
            }
        };
        self.dedicated_pools().push(pool.clone());
        Ok(pool)
    }

    /// How many statements have been sent since the database was opened, those of dedicated connections included.
    pub fn query_count(&self) -> u64 {
        self.0.statements.count()
    }

    /// How many connections there are for writing, and on PostgreSQL for reading, too.
    pub fn pool_use(&self) -> PoolUse {
        self.0.writers.in_use()
    }

    /// Waits for what has been begun, and closes the connections.
    pub async fn close(&self) {
        self.0.tasks.close();
        let closing = async {
            let dedicated = std::mem::take(&mut *self.dedicated_pools());
            for pool in dedicated {
                pool.close().await;
            }
            self.0.readers.close().await;
            self.0.writers.close().await;
            self.0.tasks.wait().await;
        };
        if tokio::time::timeout(CLOSING, closing).await.is_err() {
            tracing::warn!("some database connections did not come back; closing without them");
        }
    }

    fn dedicated_pools(&self) -> MutexGuard<'_, Vec<Pool>> {
        let dedicated = self.0.dedicated.lock();
        dedicated.unwrap_or_else(PoisonError::into_inner)
    }

    fn postgres_url(&self) -> Result<&secrecy::SecretString> {
        match &self.0.settings.location {
            DatabaseLocation::Postgres(url) => Ok(url),
            DatabaseLocation::Sqlite(_) => Err(Error::internal(
                "only a PostgreSQL database has connections besides its pool",
            )),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("location", &self.0.settings.location)
            .finish_non_exhaustive()
    }
}

/// Counts statements, of all pools. `sea_orm` reports each one, inside transactions as well, but for BEGIN, COMMIT,
/// ROLLBACK and what is sent unprepared.
#[derive(Debug, Clone, Default)]
struct Statements(Arc<AtomicU64>);

impl Statements {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn count_those_of(&self, connection: &mut sea_orm::DatabaseConnection) {
        let counter = Arc::clone(&self.0);
        connection.set_metric_callback(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
    }
}
