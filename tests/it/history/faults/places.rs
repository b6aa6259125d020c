//! Who gives places in the log is stopped, or is not alone.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use super::{super::world::World, between};
use crate::support::{Dice, Slot, Snag, eventually, postgres};

/// By when a sequencer has its turn: while there is another one, it may take a while.
const TURN: Duration = Duration::from_secs(2);

/// PostgreSQL ends a session that is stopped in a transaction after half a second, or as soon as a busy machine lets it.
const ENDED: Duration = Duration::from_millis(1500);

/// Holds up a step of a sequencer: it is one statement, so that nobody waits for it who would take the turn.
pub(super) async fn delay_step(world: &World, slot: &Slot, dice: &mut Dice) {
    let duration = between(dice, 100, if world.long { 3000 } else { 1500 });
    slot.proxy.hold_up(Snag::Steps(duration), TURN).await;
    // Whoever comes next is not held up.
    slot.proxy.let_go();
    tokio::time::sleep(duration).await;
    let sql = "SELECT pid, state_change::text FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'token-authority sequencer' \
                     AND state LIKE 'idle in transaction%' AND clock_timestamp() - state_change > $1::interval";
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    let looking = sqlx::query_as(sql).bind(format!("{} ms", ENDED.as_millis()));
    let stopped: Vec<(i32, String)> = looking.fetch_all(&mut connection).await.unwrap();
    for (session, since) in stopped {
        is_ended(&mut connection, session, &since).await;
    }
}

/// A session that is due to be ended, and has had no processor to notice it, does nothing else once it has one.
async fn is_ended(connection: &mut PgConnection, session: i32, since: &str) {
    let sql = "SELECT coalesce(state_change::text, '') FROM pg_stat_activity \
               WHERE pid = $1 AND application_name = 'token-authority sequencer'";
    eventually("a sequencer that is stopped is ended", async || {
        let looking = sqlx::query_scalar(sql).bind(session);
        let found: Option<String> = looking.fetch_optional(&mut *connection).await.unwrap();
        if let Some(changed) = &found {
            assert_eq!(
                changed, since,
                "a sequencer that is stopped stops the others"
            );
        }
        found.is_none()
    })
    .await;
}

/// Three who do not take turns, and take back half of what they did.
pub(super) async fn sequence_out_of_turn(world: &World, dice: &mut Dice) {
    let end = Instant::now() + between(dice, 800, 1800);
    let mut hands = || sequence_until(world, Dice::seeded(dice.below(u64::MAX)), end);
    tokio::join!(hands(), hands(), hands());
}

async fn sequence_until(world: &World, mut dice: Dice, end: Instant) {
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    while Instant::now() < end {
        let mut transaction = connection.begin().await.unwrap();
        let limit = i64::try_from(1 + dice.below(5)).unwrap();
        // They meet, and all but one fail: the database has one entry for a place.
        let moving = sqlx::query(OUT_OF_TURN).bind(limit);
        let moved = moving.execute(&mut *transaction).await;
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

/// What a sequencer does, but for its turn.
const OUT_OF_TURN: &str = "
    WITH next AS (SELECT xid, inbox_id FROM revocation_inbox ORDER BY xid, inbox_id LIMIT $1),
    taken AS (DELETE FROM revocation_inbox i USING next WHERE i.xid = next.xid AND i.inbox_id = next.inbox_id RETURNING i.*)
    INSERT INTO revocation_log (position, event_id, kind, subject_kind, subject_id, space_id, sessions_until, effective_time,
                                create_time, forget_time, reason)
    SELECT (SELECT coalesce(max(position), 0) FROM revocation_log) + row_number() OVER (ORDER BY xid, inbox_id),
           event_id, kind, subject_kind, subject_id, space_id, sessions_until, effective_time, create_time, forget_time, reason
    FROM taken";
