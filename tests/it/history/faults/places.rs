//! Who gives places in the log is stopped, or is not alone.

use std::time::Duration;

use token_authority::storage::{Database, DatabaseSettings, revocation_log};
use tokio::time::Instant;

use super::{
    super::{cluster::Slot, proxy::Snag, world::World},
    between,
};
use crate::support::{Dice, postgres};

/// By when a sequencer has its turn: while there is another one, it may take a while.
const TURN: Duration = Duration::from_secs(2);

/// PostgreSQL ends a session that is stopped in a transaction after half a second, give or take what a busy machine does.
const ENDED: Duration = Duration::from_millis(1500);

/// Holds up the COMMIT of a sequencer, with the turn and its rows in its hands.
pub(super) async fn stop_sequencer(world: &World, slot: &Slot, dice: &mut Dice) {
    let duration = between(dice, 100, if world.long { 3000 } else { 1500 });
    slot.proxy.hold_up(Snag::Commits(duration), TURN).await;
    // Whoever comes next is not held up.
    slot.proxy.let_go();
    tokio::time::sleep(duration).await;
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'token-authority sequencer' \
                     AND state LIKE 'idle in transaction%' AND clock_timestamp() - state_change > $1::interval";
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    let counting = sqlx::query_scalar(sql).bind(format!("{} ms", ENDED.as_millis()));
    let stopped: i64 = counting.fetch_one(&mut connection).await.unwrap();
    assert_eq!(stopped, 0, "a sequencer that is stopped stops the others");
}

/// Three who do not take turns, and take back half of what they did.
pub(super) async fn sequence_out_of_turn(world: &World, dice: &mut Dice) {
    let mut settings = DatabaseSettings::postgres(world.cluster.database.url().unwrap());
    // Whoever ends the servers' sessions leaves these alone.
    "nemesis".clone_into(&mut settings.application_name);
    let database = Database::open(&settings).await.unwrap();
    let end = Instant::now() + between(dice, 800, 1800);
    let mut hands = || sequence_until(&database, Dice::seeded(dice.below(u64::MAX)), end);
    tokio::join!(hands(), hands(), hands());
    database.close().await;
}

async fn sequence_until(database: &Database, mut dice: Dice, end: Instant) {
    while Instant::now() < end {
        let transaction = database.begin().await.unwrap();
        let limit = 1 + u32::try_from(dice.below(5)).unwrap();
        // They meet, and all but one fail: the database has one entry for a place.
        let moved = revocation_log::sequence(&transaction, 0, limit).await;
        dice.moment(Duration::from_millis(10)).await;
        if moved.is_ok() && dice.below(2) == 0 {
            // Nor is it known of every commit that it was one.
            let _ = transaction.commit().await;
        } else {
            transaction.rollback().await.unwrap();
        }
        dice.moment(Duration::from_millis(10)).await;
    }
}
