//! Being told of what another connection has committed. PostgreSQL only.

use std::fmt;

use sea_orm::sqlx::postgres::PgListener;

use super::{Database, Pool, error::from_sqlx};
use crate::error::Result;

/// Hears the notifications of a channel, on a connection of its own.
///
/// It may miss some: while its connection is lost, and for as long as a dead one seems alive. So whoever listens also looks
/// from time to time.
pub struct Listener {
    listener: PgListener,
    /// The one connection comes from here.
    _pool: Pool,
}

impl Listener {
    /// Begins to listen to `channel`; what is committed from now on is heard. UNAVAILABLE where the database cannot be reached.
    pub async fn open(database: &Database, name: &str, channel: &str) -> Result<Self> {
        let pool = database
            .dedicated(name, database.0.settings.idle_in_transaction_timeout)
            .await?;
        let mut listener = PgListener::connect_with(&pool.sqlx_pool())
            .await
            .map_err(from_sqlx)?;
        listener.listen(channel).await.map_err(from_sqlx)?;
        Ok(Self {
            listener,
            _pool: pool,
        })
    }

    /// Waits until there may be something new: a notification has come, or the connection was lost and is there again. Where
    /// the future is dropped, nothing is lost. UNAVAILABLE where the connection is lost: then open another listener.
    pub async fn heard(&mut self) -> Result<()> {
        self.listener.try_recv().await.map_err(from_sqlx)?;
        Ok(())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
