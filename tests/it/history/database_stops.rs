//! A history in which PostgreSQL itself stops at once, again and again, and starts again.

use std::time::Duration;

use token_authority::clock::boottime;
use tokio::time::Instant;

use super::{
    SEED,
    calls::{Means, PAUSE},
    dice, judge, live_through,
    record::{Fault, Span},
    world::World,
};
use crate::support::{At, Cluster, Count, Dice, OwnPostgres, STANDING};

const STOPS: Count = Count { quick: 4, full: 25 };
/// How long PostgreSQL is away, in milliseconds at most: for longer than a lease lasts, or not.
const AWAY: u64 = 5000;
/// By when all is well again, even where the machine is busy.
const PATIENCE: Duration = Duration::from_mins(1);
/// For how long all goes well before it stops, in milliseconds at most.
const WELL: u64 = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_servers_whose_database_stops_at_once_keeps_every_promise() {
    let Some(postgres) = OwnPostgres::start() else {
        eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES_BIN names no folder");
        return;
    };
    let cluster = Cluster::start(postgres.database()).await;
    let world = World::make(cluster, false).await;
    let mut recoveries = Vec::new();
    let stopping = Box::pin(async {
        let mut dice = dice(SEED, 400);
        for _ in 0..STOPS.get() {
            stop_and_start(&world, &postgres, &mut dice).await;
            recoveries.push(Box::pin(recover(&world)).await);
        }
    });
    let subscribers = live_through(&world, SEED, stopping).await;
    judge(&world, SEED, subscribers).await;
    recoveries.sort();
    eprintln!(
        "stopped {} times; every server answered and revoked again after {:.1?} in the median, {:.1?} at the longest",
        recoveries.len(),
        recoveries[recoveries.len() / 2],
        recoveries[recoveries.len() - 1],
    );
}

/// PostgreSQL stops around a revocation, and starts after a while.
async fn stop_and_start(world: &World, postgres: &OwnPostgres, dice: &mut Dice) {
    tokio::time::sleep(Duration::from_millis(dice.below(WELL))).await;
    world.when_revoking(dice).await;
    let begun = boottime();
    postgres.crash();
    tokio::time::sleep(Duration::from_millis(dice.below(AWAY))).await;
    postgres.start_again();
    let span = Span {
        begun,
        ended: boottime(),
    };
    let (kind, to) = ("stop of PostgreSQL", "all".to_owned());
    world.record().faults.push(Fault { kind, to, span });
}

/// Waits until every server answers and revokes again, without anybody having done anything; how long that took.
async fn recover(world: &World) -> Duration {
    let begun = Instant::now();
    let servers = world.cluster.running();
    let [a, b, c] = &servers[..] else {
        panic!("{STANDING} stand");
    };
    tokio::join!(is_well(world, a), is_well(world, b), is_well(world, c));
    begun.elapsed()
}

async fn is_well(world: &World, at: &At) {
    let revoking = async {
        loop {
            if let Some(key) = world.make_key(at, &world.users[0]).await
                && let Some(place) = world.revoke(at, &Means::RevokeToken(key), true).await
                && place.effective
            {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let revoked = tokio::time::timeout(PATIENCE, revoking).await;
    revoked.unwrap_or_else(|_| panic!("{} is not well again", at.name));
}
