//! What is done to the servers while clients ask them.
//!
//! Two hands are at it: one stops, kills, starts and ends processes, the other cuts, holds up and slows what is between them and
//! PostgreSQL. Each deals from a deck that holds every kind, so that each kind occurs before one occurs again.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use token_authority::clock::boottime;
use tokio::time::Instant;

use super::{
    record::{Fault, Span},
    world::World,
};
use crate::support::{Dice, STANDING, Slot, Weather, eventually, postgres};

/// By when a replica that goes on after its lease was taken away has joined again.
const JOINED: Duration = Duration::from_millis(1500);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Stopped for less than a lease lasts.
    ShortStop,
    /// Stopped for longer.
    LongStop,
    Kill,
    /// A fourth replica joins, serves and leaves.
    Visit,
    /// Sessions of this name are ended by PostgreSQL.
    Lose(&'static str),
    Cut,
    Silent,
    Deaf,
    Slow,
    /// A transaction that has written is left open.
    HeldTransaction,
}

const OF_PROCESSES: &[Kind] = &[
    Kind::ShortStop,
    Kind::LongStop,
    Kind::ShortStop,
    Kind::Kill,
    Kind::ShortStop,
    Kind::Visit,
    Kind::LongStop,
];

const OF_CONNECTIONS: &[Kind] = &[
    Kind::Lose("lease"),
    Kind::Lose("barrier"),
    Kind::Lose("tail"),
    Kind::Lose("listener"),
    Kind::Lose("sequencer"),
    Kind::Lose("every"),
    Kind::Cut,
    Kind::Silent,
    Kind::Deaf,
    Kind::Slow,
    Kind::HeldTransaction,
];

impl Kind {
    /// Every one.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        OF_PROCESSES.iter().chain(OF_CONNECTIONS).copied()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ShortStop => "short stop",
            Self::LongStop => "stop beyond the lease",
            Self::Kill => "kill and restart",
            Self::Visit => "join and leave",
            Self::Lose("lease") => "loss of lease connections",
            Self::Lose("barrier") => "loss of barrier connections",
            Self::Lose("tail") => "loss of tail connections",
            Self::Lose("listener") => "loss of listener connections",
            Self::Lose("sequencer") => "loss of sequencer connections",
            Self::Lose(_) => "loss of all connections",
            Self::Cut => "cut from PostgreSQL",
            Self::Silent => "silence to and from PostgreSQL",
            Self::Deaf => "silence from PostgreSQL",
            Self::Slow => "slow way to PostgreSQL",
            Self::HeldTransaction => "held transaction",
        }
    }
}

/// Stops, kills, starts and ends processes until `until`, and until each kind has occurred.
pub(super) async fn of_processes(world: &World, dice: Dice, until: Instant) {
    deal(world, OF_PROCESSES, dice, until).await;
}

/// Cuts, holds up and slows connections until `until`, and until each kind has occurred.
pub(super) async fn of_connections(world: &World, dice: Dice, until: Instant) {
    let mut connection = postgres(&world.cluster.database).await.unwrap();
    let table = "CREATE TABLE nemesis (number bigint)";
    connection.execute(table).await.unwrap();
    deal(world, OF_CONNECTIONS, dice, until).await;
}

async fn deal(world: &World, kinds: &[Kind], mut dice: Dice, until: Instant) {
    loop {
        let mut deck = kinds.to_vec();
        while !deck.is_empty() {
            let drawn = usize::try_from(dice.below(deck.len() as u64)).unwrap();
            inflict(world, deck.swap_remove(drawn), &mut dice).await;
            tokio::time::sleep(between(&mut dice, 50, 400)).await;
        }
        if Instant::now() >= until {
            return;
        }
    }
}

/// Does it, and undoes it after a while.
async fn inflict(world: &World, kind: Kind, dice: &mut Dice) {
    let standing = usize::try_from(dice.below(STANDING as u64)).unwrap();
    let slot = &world.cluster.slots[standing];
    let mut to = slot.at().map(|at| at.name).unwrap_or_default();
    // Most of what can go wrong does so around a revocation.
    world.when_revoking(dice).await;
    let begun = boottime();
    match kind {
        Kind::ShortStop => stop(slot, between(dice, 100, 2300)).await,
        Kind::LongStop => {
            // A long run has time for a long silence.
            let longest = if world.long && dice.below(6) == 0 {
                60_000
            } else {
                6000
            };
            let duration = between(dice, 2600, longest);
            stop(slot, duration).await;
            on_a_slow_way(slot, dice, tokio::time::sleep(JOINED)).await;
        }
        Kind::Kill => {
            slot.kill();
            tokio::time::sleep(between(dice, 0, 3000)).await;
            on_a_slow_way(slot, dice, slot.start()).await;
        }
        Kind::Visit => {
            let slot = &world.cluster.slots[STANDING];
            on_a_slow_way(slot, dice, slot.start()).await;
            to = slot.at().map(|at| at.name).unwrap_or_default();
            tokio::time::sleep(between(dice, 200, 3000)).await;
            slot.leave().await;
        }
        Kind::Lose(whose) => {
            "all".clone_into(&mut to);
            terminate(world, whose).await;
        }
        Kind::Cut => weather(slot, Weather::Cut, between(dice, 100, 4000)).await,
        Kind::Silent | Kind::Deaf => {
            let silence = if kind == Kind::Deaf {
                Weather::Deaf
            } else {
                Weather::Silent
            };
            weather(slot, silence, between(dice, 100, 5000)).await;
            on_a_slow_way(slot, dice, tokio::time::sleep(JOINED)).await;
        }
        Kind::Slow => {
            let delay = between(dice, 5, 150);
            weather(slot, Weather::Slow(delay), between(dice, 500, 3000)).await;
        }
        Kind::HeldTransaction => {
            "all".clone_into(&mut to);
            hold(world, between(dice, 300, 2500)).await;
        }
    }
    let span = Span {
        begun,
        ended: boottime(),
    };
    let kind = kind.name();
    world.record().faults.push(Fault { kind, to, span });
}

async fn stop(slot: &Slot, duration: Duration) {
    let Some(process) = slot.process() else {
        return;
    };
    process.pause();
    tokio::time::sleep(duration).await;
    process.go_on();
}

/// Whoever joins does so in several steps: often each of them takes long, or only reading the log does.
async fn on_a_slow_way(slot: &Slot, dice: &mut Dice, joining: impl Future<Output = ()>) {
    match dice.below(4) {
        0 => slot.proxy.set(Weather::Slow(between(dice, 10, 60))),
        1 | 2 => slot.proxy.set(Weather::SlowTail(between(dice, 50, 120))),
        _ => {}
    }
    joining.await;
    slot.proxy.set(Weather::Fair);
}

async fn weather(slot: &Slot, weather: Weather, duration: Duration) {
    slot.proxy.set(weather);
    tokio::time::sleep(duration).await;
    slot.proxy.set(Weather::Fair);
}

async fn terminate(world: &World, whose: &str) {
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

async fn hold(world: &World, duration: Duration) {
    let mut connection: PgConnection = postgres(&world.cluster.database).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let number = duration.as_millis();
    let sql = AssertSqlSafe(format!("INSERT INTO nemesis VALUES ({number})"));
    transaction.execute(sql).await.unwrap();
    tokio::time::sleep(duration).await;
    transaction.commit().await.unwrap();
}

/// A span between two numbers of milliseconds.
fn between(dice: &mut Dice, shortest: u64, longest: u64) -> Duration {
    Duration::from_millis(shortest + dice.below(longest - shortest + 1))
}
