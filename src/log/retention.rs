//! Forgets what can kill nothing any more: the oldest entries of the table, and what memory holds of them.
//!
//! A wall clock that is wrong for a while must bring nothing to life. The table forgets what is old by the newest entry's date, and
//! by a clock that has run evenly for an hour; memory forgets what the table has forgotten.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{RETENTION, Shared, steady::SteadyClock};
use crate::{
    clock::{Timestamp, boottime},
    domain::revocation::FORGET_AFTER,
    error::Result,
    storage::{
        authority,
        revocation_log::{self, Times, Turn},
    },
};

const PAUSE: Duration = Duration::from_mins(1);
/// How far ahead of a clock that is believed an entry may be dated and nobody be told: clocks differ a little.
const AHEAD: Duration = Duration::from_hours(1);
/// Rows deleted in one transaction.
const BATCH: u32 = 1000;

/// Forgets once a minute until `stop`.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut clock = SteadyClock::new(shared.clock.now(), boottime());
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
        let now = shared.clock.now();
        let believed = clock.look(now, boottime()).then_some(now);
        if let Err(error) = forget(&shared, believed, &stop).await {
            tracing::warn!(error = ?error, "revocation_log.forget_failed");
        }
    }
}

/// Forgets, in the table where there is a time that is `believed`.
pub(super) async fn forget(
    shared: &Shared,
    believed: Option<Timestamp>,
    stop: &CancellationToken,
) -> Result<()> {
    if let Some(now) = believed {
        forget_rows(shared, now, stop).await?;
    }
    let Some(times) = revocation_log::times(shared.db.reader()).await? else {
        return Ok(());
    };
    let mut applied = shared.memory.write();
    if let Some(now) = believed {
        warn_of_the_future(times, now);
        applied.believe(now);
    }
    applied.forget(times.oldest_forget_time, shared.clock.now());
    Ok(())
}

/// Nothing is lost by an entry of a clock that was far ahead, and nothing forgotten.
fn warn_of_the_future(times: Times, now: Timestamp) {
    if times.newest_forget_time > now + FORGET_AFTER + AHEAD {
        tracing::warn!(
            entry.forget_time = times.newest_forget_time.seconds(),
            "revocation_log.ahead: nothing from an entry of the future on is forgotten until then"
        );
    }
}

async fn forget_rows(shared: &Shared, now: Timestamp, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() {
        let transaction = shared.db.begin().await?;
        if !revocation_log::take_turn(&transaction, Turn::Forget).await? {
            return transaction.rollback().await;
        }
        authority::note_time(&transaction, now).await?;
        let times = revocation_log::times(&transaction).await?;
        let newest = times.map_or(now, |times| times.newest_create_time);
        let until = newest.min(now) - RETENTION;
        let forgotten = revocation_log::forget(&transaction, until, BATCH).await?;
        transaction.commit().await?;
        if forgotten < u64::from(BATCH) {
            return Ok(());
        }
    }
    Ok(())
}
