//! Gives committed rows of the inbox their places in the log (PostgreSQL). Every server has one; whichever takes the turn moves
//! the rows of all.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    clock::boottime,
    domain::{
        lease::Terms,
        revocation::{Decision, Subject},
    },
    error::Result,
    storage::{
        self, Pool, Transaction,
        revocation_log::{self, Turn},
    },
};

/// Rows moved in one statement.
const BATCH: u32 = 1000;
/// The longest that a committed row waits for its place where nobody woke the sequencer.
const PAUSE: Duration = Duration::from_millis(20);
/// How long another server's turn is waited for: it may have begun before what is to be moved was committed.
const OTHERS_TURN: Duration = Duration::from_millis(2);
/// How often the lower bound of the scan is renewed.
const BOUND_RENEWED: Duration = Duration::from_secs(1);

pub(super) struct Sequencer {
    shared: Arc<Shared>,
    connection: Pool,
    /// Every row of a smaller transaction id has been moved. A bound of the scan past dead rows, never a horizon.
    low: i64,
    renewed: Instant,
    /// A timeline on which the log has not grown yet, and since when it is known here, in time since boot.
    newer: Option<(i64, Duration)>,
}

/// What came of a turn.
enum Turned {
    /// So many rows were moved.
    Moved(u64),
    /// It is another server's turn.
    Elsewhere,
    /// Nothing may get a place yet.
    TooEarly,
}

impl Sequencer {
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self> {
        let connection = shared.own_connection("token-authority sequencer").await?;
        Ok(Self {
            shared,
            connection,
            low: 0,
            renewed: Instant::now(),
            newer: None,
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
            if !revocation_log::is_waiting(&self.connection, self.low).await? {
                if bound.is_some() {
                    self.look_at_the_timeline().await?;
                }
                self.raise_bound(bound);
                return Ok(());
            }
            let moved = match self.move_a_batch().await? {
                Turned::Moved(moved) => moved,
                Turned::Elsewhere => {
                    tokio::time::sleep(OTHERS_TURN).await;
                    continue;
                }
                Turned::TooEarly => return Ok(()),
            };
            if moved > 0 {
                self.shared.wake_tail.notify_one();
            }
            if moved < u64::from(BATCH) {
                self.raise_bound(bound);
                return Ok(());
            }
        }
    }

    /// It was read before it was found that nothing is left: what is below has been moved.
    fn raise_bound(&mut self, bound: Option<i64>) {
        self.low = match bound {
            Some(bound) if bound < self.low => 0,
            Some(bound) => bound,
            None => self.low,
        };
    }

    async fn move_a_batch(&mut self) -> Result<Turned> {
        let transaction = self.connection.begin().await?;
        if !revocation_log::take_turn(&transaction, Turn::Sequence).await? {
            transaction.rollback().await?;
            return Ok(Turned::Elsewhere);
        }
        if !self.mind_the_timeline(&transaction).await? {
            transaction.rollback().await?;
            return Ok(Turned::TooEarly);
        }
        let moved = revocation_log::sequence(&transaction, self.low, BATCH).await?;
        if moved > 0 {
            storage::announce(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(Turned::Moved(moved))
    }

    /// Begins the log anew where that is due, though nothing waits for a place.
    async fn look_at_the_timeline(&mut self) -> Result<()> {
        let transaction = self.connection.begin().await?;
        if !revocation_log::take_turn(&transaction, Turn::Sequence).await?
            || !self.mind_the_timeline(&transaction).await?
        {
            return transaction.rollback().await;
        }
        transaction.commit().await
    }

    /// A standby that took over may lack the end of the log: before anything else gets a place, it begins anew. False where it is
    /// too early for that.
    async fn mind_the_timeline(&mut self, transaction: &Transaction) -> Result<bool> {
        let (known, now) = storage::authority::timelines(transaction).await?;
        if known == Some(now) {
            self.newer = None;
            return Ok(true);
        }
        if known.is_some() {
            if !self.lost_leases_are_over(now) {
                return Ok(false);
            }
            let decision = Decision::change(Subject::Everything, None);
            super::begin_anew(transaction, &decision, self.shared.clock.now()).await?;
            storage::announce(transaction).await?;
        }
        storage::authority::set_timeline(transaction, now).await?;
        Ok(true)
    }

    /// A lease may have been lost as well, of a server that nobody would wait for: it was renewed for the last time before this
    /// timeline began.
    fn lost_leases_are_over(&mut self, timeline: i64) -> bool {
        let now = boottime();
        let since = match self.newer {
            Some((seen, since)) if seen == timeline => since,
            Some(_) | None => now,
        };
        self.newer = Some((timeline, since));
        now.saturating_sub(since) >= Terms::STANDARD.patience()
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
