//! Gives committed rows of the inbox their places in the log (PostgreSQL).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    error::Result,
    storage::{Pool, revocation_log},
};

/// Rows moved in one statement.
const BATCH: u32 = 1000;
/// The longest that a committed row waits for its place where nobody woke the sequencer.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the lower bound of the scan is renewed.
const BOUND_RENEWED: Duration = Duration::from_secs(1);

/// A sequencer that was stopped between statement and commit must not stop the rest for longer.
const IDLE: Duration = Duration::from_millis(500);

pub(super) struct Sequencer {
    shared: Arc<Shared>,
    connection: Pool,
    /// Every row of a smaller transaction id has been moved. A bound of the scan past dead rows, never a horizon.
    low: i64,
    renewed: Instant,
}

impl Sequencer {
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self> {
        let connection = shared
            .db
            .dedicated("token-authority sequencer", IDLE)
            .await?;
        Ok(Self {
            shared,
            connection,
            low: 0,
            renewed: Instant::now(),
        })
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = self.shared.wake_sequencer.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
            match self.drain().await {
                Ok(()) => failing = false,
                Err(error) => {
                    // A database that was restored or failed over may count on from an earlier transaction.
                    self.low = 0;
                    if !failing {
                        tracing::warn!(error = ?error, "sequencer.failed");
                    }
                    failing = true;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Moves all that is committed.
    async fn drain(&mut self) -> Result<()> {
        loop {
            let bound = self.next_bound().await?;
            let transaction = self.connection.begin().await?;
            let moved = revocation_log::sequence(&transaction, self.low, BATCH).await?;
            transaction.commit().await?;
            if moved > 0 {
                self.shared.wake_tail.notify_one();
            }
            if moved < u64::from(BATCH) {
                // Read before the move, and the move left nothing behind: what is below has been moved.
                self.low = match bound {
                    Some(bound) if bound < self.low => 0,
                    Some(bound) => bound,
                    None => self.low,
                };
                return Ok(());
            }
        }
    }

    async fn next_bound(&mut self) -> Result<Option<i64>> {
        if self.renewed.elapsed() < BOUND_RENEWED {
            return Ok(None);
        }
        self.renewed = Instant::now();
        revocation_log::oldest_running_transaction(&self.connection)
            .await
            .map(Some)
    }
}
