//! Forgets what can kill nothing any more: the oldest entries of the table, and what memory holds of them.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{RETENTION, Shared};
use crate::{
    error::Result,
    storage::revocation_log::{self, Turn},
};

const PAUSE: Duration = Duration::from_mins(1);
/// Rows deleted in one transaction.
const BATCH: u32 = 1000;

/// Forgets once a minute until `stop`.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
        let now = shared.clock.now();
        shared.memory.write().forget(now);
        if let Err(error) = forget_rows(&shared, &stop).await {
            tracing::warn!(error = ?error, "revocation_log.forget_failed");
        }
    }
}

async fn forget_rows(shared: &Shared, stop: &CancellationToken) -> Result<()> {
    let until = shared.clock.now() - RETENTION;
    while !stop.is_cancelled() {
        let transaction = shared.db.begin().await?;
        if !revocation_log::take_turn(&transaction, Turn::Forget).await? {
            return transaction.rollback().await;
        }
        let forgotten = revocation_log::forget(&transaction, until, BATCH).await?;
        transaction.commit().await?;
        if forgotten < u64::from(BATCH) {
            return Ok(());
        }
    }
    Ok(())
}
