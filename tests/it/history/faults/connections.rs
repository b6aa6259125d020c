//! What is between the replicas and PostgreSQL, cut, slowed and held up.

use std::time::Duration;

use sqlx::Connection as _;

use super::{super::world::World, between, kind::Stage, processes};
use crate::support::{Dice, Slot, Snag, Weather, eventually, postgres};

/// By when a renewal is sent and answered, twice over.
const RENEWED: Duration = Duration::from_secs(2);

pub(super) async fn weather(slot: &Slot, weather: Weather, duration: Duration) {
    slot.proxy.set(weather);
    tokio::time::sleep(duration).await;
    slot.proxy.set(Weather::Fair);
}

pub(super) async fn silence(slot: &Slot, silence: Weather, dice: &mut Dice) {
    weather(slot, silence, between(dice, 100, 5000)).await;
    processes::rejoin(slot, dice).await;
}

/// Ends sessions of this name.
pub(super) async fn terminate(world: &World, whose: &str) {
    let like = match whose {
        "every" => "token-authority%".to_owned(),
        one => format!("token-authority {one}"),
    };
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE $1";
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    // There may be none for a moment: what was lost is opened anew when it is needed.
    eventually(&format!("there is {like}"), async || {
        let ending = sqlx::query(sql).bind(&like).execute(&mut connection);
        ending.await.unwrap().rows_affected() > 0
    })
    .await;
}

/// Holds a renewal of the lease up for `duration`.
pub(super) async fn delay_renewal(world: &World, slot: &Slot, stage: Stage, duration: Duration) {
    let snag = match stage {
        Stage::Before => Snag::Renewals,
        Stage::After => Snag::AnswersToRenewals,
        Stage::During => return lock_lease(world, slot, duration).await,
    };
    // One that does not run, or is stopped, renews nothing.
    slot.proxy.hold_up(snag, RENEWED).await;
    tokio::time::sleep(duration).await;
    slot.proxy.let_go();
}

/// Locks the row of a lease: whoever would renew it, or take it away, waits.
async fn lock_lease(world: &World, slot: &Slot, duration: Duration) {
    let process = slot.process().map(|process| process.id());
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let sql = "SELECT 1 FROM replica_leases WHERE name LIKE '%:' || $1::text AND fence_time IS NULL FOR UPDATE";
    let process = i64::from(process.unwrap_or_default());
    let locking = sqlx::query(sql).bind(process).execute(&mut *transaction);
    locking.await.unwrap();
    tokio::time::sleep(duration).await;
    transaction.rollback().await.unwrap();
}
