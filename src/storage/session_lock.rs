//! A lock that lasts as long as a connection: whoever loses the connection has lost the lock.

use std::{fmt, time::Duration};

use sea_orm::sqlx::{self, Connection, PgConnection};

use super::{Database, error::from_sqlx, postgres};
use crate::error::{Error, Reason, Result};

/// A lock of a PostgreSQL database, held until this is dropped or the connection is lost.
///
/// It has a connection of its own outside every pool: a pool would open another one in its place, without the lock.
pub struct SessionLock {
    connection: PgConnection,
    patience: Duration,
}

impl SessionLock {
    /// Takes the lock `key`; none where another session has it. UNAVAILABLE where the database cannot be reached.
    pub async fn try_acquire(database: &Database, name: &str, key: i64) -> Result<Option<Self>> {
        let mut settings = database.0.settings.clone();
        name.clone_into(&mut settings.application_name);
        let connection = postgres::connect(database.postgres_url()?, &settings).await?;
        let mut lock = Self {
            connection,
            patience: postgres::patience(&settings),
        };
        let taken = lock.try_take(key).await?;
        Ok(taken.then_some(lock))
    }

    /// Asks whether the connection, and with it the lock, is still there; UNAVAILABLE where it is lost for good.
    pub async fn check(&mut self) -> Result<()> {
        let asked = tokio::time::timeout(self.patience, self.connection.ping()).await;
        match asked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lost().because(from_sqlx(error))),
            Err(_) => Err(lost()),
        }
    }

    async fn try_take(&mut self, key: i64) -> Result<bool> {
        let taking = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(key)
            .fetch_one(&mut self.connection);
        tokio::time::timeout(self.patience, taking)
            .await
            .map_err(|_| lost())?
            .map_err(from_sqlx)
    }
}

fn lost() -> Error {
    Error::new(
        Reason::DatabaseUnavailable,
        "the connection that held a lock is lost",
    )
    .retry_after(super::error::RETRY_AFTER)
}

impl fmt::Debug for SessionLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionLock")
    }
}
