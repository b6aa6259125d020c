//! Gauges that nobody sets on the way: they are looked up regularly.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use tokio_util::sync::CancellationToken;

use crate::{authority::Authority, telemetry::metrics as names};

/// How often.
const REPORTING: Duration = Duration::from_secs(1);

/// Says how the database's connections, the revocation log and its streams stand, until `stop`.
pub(super) async fn report_regularly(authority: Arc<Authority>, stop: CancellationToken) {
    // The head is read from the database. Where that takes long, the rest is told all the same.
    let reporting = async { tokio::join!(report(&authority), report_log(&authority)) };
    stop.run_until_cancelled(reporting).await;
}

async fn report(authority: &Authority) {
    let connections = |state| gauge!(names::DATABASE_CONNECTIONS, "state" => state);
    let (used, idle) = (connections("used"), connections("idle"));
    let (lease, lag) = (gauge!(names::LEASE_HELD), gauge!(names::STREAM_LAG));
    let count = |connections: usize| u32::try_from(connections).unwrap_or(u32::MAX);
    loop {
        let pool = authority.db.pool_use();
        used.set(count(pool.open - pool.idle));
        idle.set(count(pool.idle));
        lease.set(u32::from(authority.log.is_current()));
        let applied = *authority.log.place().borrow();
        lag.set(number(authority.streams.lag(applied)));
        tokio::time::sleep(REPORTING).await;
    }
}

/// The head stays what it was last seen to be where it cannot be read. What is applied is looked up after it, so that who
/// compares the two sees no lag where there is none.
async fn report_log(authority: &Authority) {
    let (head, applied) = (gauge!(names::LOG_HEAD), gauge!(names::LOG_APPLIED));
    loop {
        if let Ok(read) = authority.log.head().await {
            head.set(number(read.0));
        }
        applied.set(number(authority.log.place().borrow().0));
        tokio::time::sleep(REPORTING).await;
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to two to the 53rd, as positions are"
)]
fn number(count: u64) -> f64 {
    count as f64
}
