//! Keeps the audit log: writes down refusals, and chains what is not chained yet.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::refusals;
use crate::{
    authority::Authority,
    error::{Error, Result},
    storage::{self, Database, Engine, audit::Barred},
};

/// Events chained in one transaction.
const BATCH: usize = 512;

/// Keeps it until `stop`, and a last time then.
pub async fn keep(authority: Arc<Authority>, stop: CancellationToken) {
    let pause = match authority.db.engine() {
        // What is written is chained at once: only what was written without the key is left.
        Engine::Sqlite => Duration::from_secs(1),
        Engine::Postgres => Duration::from_millis(100),
    };
    let mut failing = false;
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = stop.cancelled() => true,
        };
        let kept = if stopping {
            keep_the_last(&authority).await
        } else {
            keep_once(&authority).await
        };
        match kept {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    tracing::error!(error = ?error, "audit.keeping_failed");
                }
                failing = true;
            }
        }
        if stopping {
            return;
        }
    }
}

/// Writes down the refusals so far, and chains all that is not chained yet. INTERNAL where the end of the chain was not sealed
/// under the master key: then nothing is added to it.
pub async fn keep_once(authority: &Authority) -> Result<()> {
    let written = refusals::write(authority).await;
    chain(&authority.db).await.and(written)
}

/// The same, with what would still be counted if the server went on.
async fn keep_the_last(authority: &Authority) -> Result<()> {
    let written = refusals::write_all(authority).await;
    chain(&authority.db).await.and(written)
}

/// A transaction a batch, so that nobody waits long.
async fn chain(db: &Database) -> Result<()> {
    let key = db
        .audit_key()
        .ok_or_else(|| Error::internal("no key was given to chain audit events under"))?;
    while !storage::audit::is_chained(db.reader()).await? {
        let transaction = db.begin().await?;
        let chained = storage::audit::chain(&transaction, key, BATCH as u64).await?;
        transaction.commit().await?;
        match chained {
            Ok(BATCH) => {}
            // What cannot be read is left over for `audit verify` to find.
            Ok(_) | Err(Barred::Busy) => break,
            Err(Barred::HeadForged) => {
                return Err(Error::internal(
                    "the end of the audit chain was not sealed under this master key, or it goes on beyond: nothing more is chained, see `audit verify`",
                ));
            }
        }
    }
    Ok(())
}
