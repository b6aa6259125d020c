//! Being told by PostgreSQL that the log has grown, instead of asking.

use std::{fmt, time::Duration};

use sea_orm::{
    ConnectionTrait,
    sqlx::{PgPool, postgres::PgListener},
};

use super::{Database, error::from_sqlx, postgres, statement::execute};
use crate::error::Result;

/// What is said there is that the log has grown.
pub(super) const CHANNEL: &str = "token_authority_log";

/// Hears what [`announce`] says, on a connection of its own.
///
/// What is said while the connection is being made anew is not heard: it only saves waiting, and nothing may depend on it.
pub struct Listener {
    listener: PgListener,
    _pool: PgPool,
}

impl Listener {
    /// Begins to listen. UNAVAILABLE where the database cannot be reached.
    pub async fn open(database: &Database) -> Result<Self> {
        let mut settings = database.0.settings.clone();
        "token-authority listener".clone_into(&mut settings.application_name);
        settings.max_connections = 1;
        // To wait is all that it does.
        settings.statement_timeout = Duration::ZERO;
        let pool = postgres::sqlx_pool(database.postgres_url()?, &settings)?;
        let mut listener = PgListener::connect_with(&pool).await.map_err(from_sqlx)?;
        listener.listen(CHANNEL).await.map_err(from_sqlx)?;
        Ok(Self {
            listener,
            _pool: pool,
        })
    }

    /// Returns when the log has grown, or the connection was lost: it is made anew by the next call.
    pub async fn heard(&mut self) -> Result<()> {
        self.listener.try_recv().await.map_err(from_sqlx)?;
        Ok(())
    }
}

/// Tells every listener, once the transaction is committed.
pub async fn announce(db: &impl ConnectionTrait) -> Result<()> {
    execute(db, "SELECT pg_notify($1, '')", [CHANNEL.into()]).await?;
    Ok(())
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
