//! Gives committed rows of the inbox their places in the log (PostgreSQL). Every server has one; whichever takes the turn moves
//! the rows of all.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Shared, scan_bound::ScanBound};
use crate::{
    clock::boottime,
    domain::{
        lease::Terms,
        revocation::{Decision, Subject},
    },
    error::{Reason, Result},
    storage::{
        self, Pool, Transaction,
        revocation_log::{self, Sequenced, Turn},
    },
};

/// Rows moved in one statement.
const BATCH: u32 = 1000;
/// The longest that a committed row waits for its place where nobody woke the sequencer.
const PAUSE: Duration = Duration::from_millis(20);
/// How long another server's turn is waited for: it may have begun before what is to be moved was committed.
const OTHERS_TURN: Duration = Duration::from_millis(2);

/// How often in a row that may come to nothing before something else must be wrong.
const COLLISIONS: u32 = 10;

pub(super) struct Sequencer {
    shared: Arc<Shared>,
    connection: Pool,
    bound: ScanBound,
    /// A timeline on which the log has not grown yet, and since when it is known here, in time since boot.
    newer: Option<(i64, Duration)>,
}

impl Sequencer {
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self> {
        let connection = shared.own_connection("token-authority sequencer").await?;
        Ok(Self {
            shared,
            connection,
            bound: ScanBound::default(),
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
            match self.drain(&stop).await {
                Ok(()) => failing = false,
                Err(error) => {
                    self.bound.forget();
                    if !failing {
                        tracing::warn!(error = ?error, "sequencer.failed");
                    }
                    failing = true;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Moves all that is committed. Whoever has the turn and keeps it is not waited for once `stop` is cancelled.
    async fn drain(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut collisions = 0;
        loop {
            self.renew_bound().await?;
            match revocation_log::sequence(&self.connection, self.bound.low(), BATCH).await {
                Ok(Sequenced::Moved { rows, through }) => {
                    self.tell(rows);
                    let Some(through) = through else {
                        self.bound.found_empty();
                        return Ok(());
                    };
                    self.bound.moved_through(through);
                }
                Ok(Sequenced::OtherTimeline) => {
                    // It counts its transactions by itself.
                    self.bound.forget();
                    if !self.begin_on_this_timeline().await? {
                        return Ok(());
                    }
                }
                Ok(Sequenced::NotOurTurn) if stop.is_cancelled() => return Ok(()),
                Ok(Sequenced::NotOurTurn) => tokio::time::sleep(OTHERS_TURN).await,
                // Another server did the same at the same moment.
                Err(error)
                    if error.reason() == Reason::ConcurrentModification
                        && collisions < COLLISIONS =>
                {
                    collisions += 1;
                    tokio::time::sleep(OTHERS_TURN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn tell(&self, moved: u64) {
        if moved > 0 {
            self.shared.wake_tail.notify_one();
            let moved = u32::try_from(moved).unwrap_or(u32::MAX);
            self.shared.sequenced_entries.record(moved);
        }
    }

    /// A standby that took over may lack the end of the log: before anything else gets a place, it begins anew. False where it is
    /// too early for that, or another server's turn.
    async fn begin_on_this_timeline(&mut self) -> Result<bool> {
        let transaction = self.connection.begin().await?;
        if !revocation_log::take_turn(&transaction, Turn::Sequence).await?
            || !self.mind_the_timeline(&transaction).await?
        {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

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
        } else {
            storage::authority::set_timeline(transaction, now).await?;
        }
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

    /// Looks now and then which transactions run.
    async fn renew_bound(&mut self) -> Result<()> {
        let now = boottime();
        if !self.bound.is_due(now) {
            return Ok(());
        }
        let oldest = revocation_log::oldest_running_transaction(&self.connection).await?;
        self.bound.running(oldest, now);
        Ok(())
    }
}
