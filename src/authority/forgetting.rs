//! Lets go of what has done its service: answers for retries after 10 minutes, rotations of tokens that have expired, failed
//! sign-ins after a day.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Authority, sign_in::throttle};
use crate::{error::Result, storage};

const PAUSE: Duration = Duration::from_mins(1);
/// Rows deleted in one transaction.
const BATCH: u32 = 1000;

/// Forgets once a minute until `stop`.
pub async fn forget_regularly(authority: Arc<Authority>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = forget(&authority).await {
            tracing::warn!(error = ?error, "forget.failed");
        }
    }
}

/// Forgets all there is to forget, in small transactions.
pub async fn forget(authority: &Authority) -> Result<()> {
    let now = authority.clock.now();
    loop {
        let transaction = authority.db.begin().await?;
        let answers = storage::idempotency_keys::forget(&transaction, now, BATCH).await?;
        let rotations = storage::rotated_tokens::forget(&transaction, now, BATCH).await?;
        let failures = throttle::forget(&transaction, now, BATCH).await?;
        transaction.commit().await?;
        if answers.max(rotations).max(failures) < u64::from(BATCH) {
            return Ok(());
        }
    }
}
