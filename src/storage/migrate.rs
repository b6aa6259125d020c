//! Brings the schema up to date, one process at a time, and refuses one that is newer than this program.

use std::time::Duration;

use sea_orm::DbErr;
use token_authority_migrations::{MigrationStatus, Migrator, MigratorTrait};

use super::{Database, Engine, Pool, SessionLock, postgres};
use crate::error::{Error, Reason, Result};

/// The advisory lock of migrations: "migrate" in ASCII.
const LOCK: i64 = 0x6d69_6772_6174_6500;
const LOCK_RETRIES: u32 = 240;
const LOCK_RETRY_AFTER: Duration = Duration::from_millis(250);

/// A step of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// What the step is called.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
}

/// Applies the steps that are missing. Waits a minute for another process that does so, then UNAVAILABLE.
pub async fn migrate_up(database: &Database) -> Result<()> {
    match database.engine() {
        // One connection writes, and no other process has the file.
        Engine::Sqlite => apply(&database.0.writers).await,
        Engine::Postgres => {
            let _lock = wait_for_lock(database).await?;
            let pool = connection_for_steps(database).await?;
            let applied = apply(&pool).await;
            pool.close().await;
            applied
        }
    }
}

/// The steps that this program knows, in order. INTERNAL where the database has others.
pub async fn migration_status(database: &Database) -> Result<Vec<MigrationState>> {
    let steps = Migrator::get_migration_with_status_read_only(database.reader())
        .await
        .map_err(newer_or)?;
    Ok(steps
        .iter()
        .map(|step| MigrationState {
            name: step.name().to_owned(),
            applied: step.status() == MigrationStatus::Applied,
        })
        .collect())
}

/// Refuses a schema that is older or newer than this program.
pub async fn require_current_schema(database: &Database) -> Result<()> {
    let steps = migration_status(database).await?;
    match steps.iter().find(|step| !step.applied) {
        Some(missing) => Err(Error::internal(format!(
            "the schema of the database lacks {}: apply the migrations first",
            missing.name
        ))),
        None => Ok(()),
    }
}

async fn apply(pool: &Pool) -> Result<()> {
    let connection = pool.connection();
    Migrator::up(&connection, None).await.map_err(newer_or)
}

/// A step may take longer than a statement of a request.
async fn connection_for_steps(database: &Database) -> Result<Pool> {
    let mut settings = database.0.settings.clone();
    "token-authority migrate".clone_into(&mut settings.application_name);
    settings.max_connections = 1;
    settings.statement_timeout = Duration::ZERO;
    settings.lock_timeout = Duration::from_mins(1);
    let url = database.postgres_url()?;
    postgres::pool(url, &settings, &database.0.statements, &database.0.tasks).await
}

async fn wait_for_lock(database: &Database) -> Result<SessionLock> {
    for _ in 0..LOCK_RETRIES {
        let name = "token-authority migration lock";
        if let Some(lock) = SessionLock::try_acquire(database, name, LOCK).await? {
            return Ok(lock);
        }
        tokio::time::sleep(LOCK_RETRY_AFTER).await;
    }
    Err(Error::new(
        Reason::DatabaseUnavailable,
        "another process is applying migrations",
    ))
}

/// sea-orm-migration reports in this form alone that the database has a step that the program does not know.
fn newer_or(error: DbErr) -> Error {
    match error {
        DbErr::Custom(_) => Error::internal(
            "the schema of the database is newer than this program: use the release that made it",
        ),
        other => other.into(),
    }
}
