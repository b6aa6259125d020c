//! One server at a time over one PostgreSQL database: a session lock, and the right to answer while it is held.
//!
//! On SQLite the locked file is enough.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    clock::boottime,
    error::{Error, Reason, Result},
    storage::{Connection, Database, Engine, session_lock},
};

/// How long the lock counts as held after it was last seen to be.
const TTL: Duration = Duration::from_millis(2500);
const BEAT: Duration = Duration::from_millis(500);
/// How long to wait at the start for a server that has just gone.
const PATIENCE: u32 = 30;

#[derive(Debug)]
pub(super) struct Tenancy {
    connection: Option<Connection>,
    /// Until when this server may answer from what it remembers, in milliseconds of [`boottime`].
    until: AtomicU64,
    must_reload: AtomicBool,
    /// Another server has the database: this one ends.
    pub(super) lost: CancellationToken,
}

impl Tenancy {
    /// Takes the lock. Fails where another server holds it.
    pub(super) async fn take(db: &Database) -> Result<Self> {
        let connection = match db.engine() {
            Engine::Sqlite => None,
            Engine::Postgres => Some(db.dedicated("token-authority server").await?),
        };
        let tenancy = Self {
            until: AtomicU64::new(if connection.is_some() { 0 } else { u64::MAX }),
            connection,
            must_reload: AtomicBool::new(false),
            lost: CancellationToken::new(),
        };
        let Some(connection) = &tenancy.connection else { return Ok(tenancy) };
        for _ in 0..PATIENCE {
            let asked = boottime();
            if session_lock::hold(connection).await? != session_lock::Hold::Another {
                tenancy.extend(asked);
                return Ok(tenancy);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::internal("another server runs over this database"))
    }

    /// UNAVAILABLE where the lock has not been seen to be held for too long.
    pub(super) fn check(&self) -> Result<()> {
        let until = self.until.load(Ordering::Relaxed);
        if until == u64::MAX || millis(boottime()) < until {
            return Ok(());
        }
        Err(Error::new(Reason::DatabaseUnavailable, "the database cannot be reached")
            .retry_after(Duration::from_secs(1)))
    }

    /// Whether the lock was lost and taken again: what was applied may have been overtaken meanwhile.
    pub(super) fn must_reload(&self) -> bool {
        self.must_reload.load(Ordering::SeqCst)
    }

    pub(super) fn reloaded(&self) {
        self.must_reload.store(false, Ordering::SeqCst);
    }

    fn extend(&self, asked: Duration) {
        self.until.store(millis(asked + TTL), Ordering::Relaxed);
    }
}

/// Sees to it that the lock stays held, until `stop`.
pub(super) async fn keep(shared: Arc<Shared>, stop: CancellationToken) {
    let tenancy = &shared.tenancy;
    let Some(connection) = &tenancy.connection else { return };
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = stop.cancelled() => return,
        }
        let asked = boottime();
        match session_lock::hold(connection).await {
            Ok(session_lock::Hold::Held) if !tenancy.must_reload() => tenancy.extend(asked),
            Ok(session_lock::Hold::Held) => shared.wake_tail.notify_one(),
            Ok(session_lock::Hold::Taken) => {
                tracing::warn!("server_lock.taken_again");
                tenancy.until.store(0, Ordering::Relaxed);
                tenancy.must_reload.store(true, Ordering::SeqCst);
                shared.wake_tail.notify_one();
            }
            Ok(session_lock::Hold::Another) => {
                tracing::error!("server_lock.lost");
                tenancy.until.store(0, Ordering::Relaxed);
                tenancy.lost.cancel();
                return;
            }
            Err(error) => tracing::warn!(error = ?error, "server_lock.unknown"),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}
