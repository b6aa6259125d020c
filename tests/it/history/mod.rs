//! A history of what servers over one PostgreSQL database did while they were stopped, killed and cut off, and whether it is one
//! that the promises allow.
//!
//! `record` is what happened, as plain data; `validators` says what must hold of it, one function a promise. `world` is what
//! everybody knows; `calls` makes each call and notes it, `clients` decide what to call, `subscribers` watch; `faults` is
//! what is done to the servers, and `database_stops` to PostgreSQL. `figures` counts. See `docs/testing.md`.

mod calls;
mod clients;
mod database_stops;
mod faults;
mod figures;
mod record;
mod subscribers;
mod validators;
mod world;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tokio::time::Instant;

use self::{
    faults::Hand,
    figures::Figures,
    record::{How, Record, Subscriber},
    world::World,
};
use crate::support::{Cluster, Dice, Engine, STANDING, TestDatabase, long_run, spawn};

const STORYTELLERS: usize = 12;
const SUBSCRIBERS: usize = 3;
/// How long it may take until all is well again.
const RECOVERY: Duration = Duration::from_secs(15);

/// Of a run that is not told how long to go on, and with what seed.
const SHORT: Duration = Duration::from_secs(15);
const SEED: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_servers_that_are_stopped_killed_and_cut_off_keeps_every_promise() {
    let Some(database) = TestDatabase::create(Engine::Postgres).await else {
        return;
    };
    let long = long_run();
    let (seed, duration) = long.unwrap_or((SEED, SHORT));
    let cluster = Cluster::start(database).await;
    let world = World::make(cluster, long.is_some()).await;
    let until = Instant::now() + duration;
    let faults = Box::pin(async {
        faults::prepare(&world).await;
        let at_work = |hand, number| faults::deal(&world, hand, dice(seed, number), until);
        tokio::join!(
            at_work(Hand::Processes, 300),
            at_work(Hand::Connections, 301),
            at_work(Hand::Log, 302),
            at_work(Hand::Kills, 303),
            at_work(Hand::Transactions, 304)
        );
        if world.long {
            faults::flood(&world, dice(seed, 305)).await;
        }
    });
    let subscribers = live_through(&world, seed, faults).await;
    let figures = judge(&world, seed, subscribers).await;
    for kind in faults::Kind::all(long.is_some()) {
        let name = kind.name();
        assert!(figures.faults.contains_key(name), "no {name}");
    }
}

/// What one of several does by.
fn dice(seed: u64, number: u64) -> Dice {
    Dice::seeded(seed.wrapping_mul(1000).wrapping_add(number))
}

/// Everything at once, until the faults are over; what subscribers were told meanwhile.
async fn live_through(
    world: &Arc<World>,
    seed: u64,
    faults: impl Future<Output = ()>,
) -> Vec<Subscriber> {
    let dice = |number: u64| dice(seed, number);
    let mut clients = Vec::new();
    for number in 0..STORYTELLERS {
        clients.push(spawn(clients::tell_stories(
            Arc::clone(world),
            number,
            dice(number as u64),
        )));
    }
    for slot in 0..world.cluster.slots.len() {
        let numbers = (dice(100 + slot as u64), dice(110 + slot as u64));
        let (one, many) = (Arc::clone(world), Arc::clone(world));
        clients.push(spawn(clients::ask_one_place(one, slot, numbers.0)));
        clients.push(spawn(clients::ask_about_many(many, slot, numbers.1)));
    }
    let watching: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| {
            let dice = dice(200 + number as u64);
            spawn(subscribers::watch(Arc::clone(world), number, dice))
        })
        .collect();
    faults.await;
    world.stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    world.pending.close();
    world.pending.wait().await;
    let mut subscribers = Vec::new();
    for watching in watching {
        subscribers.push(watching.await.unwrap());
    }
    subscribers
}

/// Lets it settle, and holds what happened against every promise.
async fn judge(world: &Arc<World>, seed: u64, subscribers: Vec<Subscriber>) -> Figures {
    let silent = settle(world, subscribers).await;
    let record = std::mem::take(&mut *world.record());
    let figures = Figures::of(&record);
    eprintln!("seed {seed}\n{figures}");
    let violations = told(&record);
    assert!(violations.is_empty(), "seed {seed}\n{violations}");
    assert!(silent.is_empty(), "not well after all is over: {silent:?}");
    assert_says_something(&figures);
    figures
}

/// Nothing is done to the servers any more: they answer again, subscribers catch up, and every token is asked about everywhere.
/// What was said by those who do not answer.
async fn settle(world: &Arc<World>, subscribers: Vec<Subscriber>) -> Vec<String> {
    let tokens = world.everything();
    let mut silent = Vec::new();
    for at in world.cluster.running() {
        let end = Instant::now() + RECOVERY;
        while let Err(failure) = world.introspect(&at, &tokens[..1], None).await {
            if Instant::now() > end {
                silent.push(format!("{}: {failure}", at.name));
                break;
            }
            tokio::time::sleep(calls::PAUSE).await;
        }
    }
    let begun = Instant::now();
    let head = faults::last_place(world).await;
    if begun.elapsed() > RECOVERY {
        let waited = begun.elapsed().as_secs();
        silent.push(format!("entries had no place after {waited} s"));
    }
    for subscriber in subscribers {
        let subscriber = subscribers::catch_up(world, subscriber, head).await;
        world.record().subscribers.push(subscriber);
    }
    for at in world.cluster.running() {
        for some in tokens.chunks(200) {
            let _ = world.introspect(&at, some, None).await;
        }
    }
    faults::measure(world, 0).await;
    silent
}

/// What breaks a promise; empty where nothing does.
fn told(record: &Record) -> String {
    let mut told = String::new();
    for (promise, count, first) in validators::check(record) {
        writeln!(
            told,
            "{promise}: broken {count} times, the first time so:\n{first}"
        )
        .unwrap();
    }
    told
}

/// Every kind of verdict and of effect occurred: a history in which nothing happens keeps every promise.
fn assert_says_something(figures: &Figures) {
    for how in [
        How::Introspected,
        How::InBatch,
        How::AsCaller,
        How::Exchanged,
        How::Rotated,
    ] {
        assert!(figures.judgements.contains_key(&how), "no {how:?}");
    }
    let counts = [
        ("active", figures.active),
        ("inactive", figures.inactive),
        ("unavailable", figures.unavailable),
        ("with a cursor", figures.bookmarked),
        ("effective", figures.effective),
        ("not effective", figures.not_effective),
        ("heartbeats", figures.heartbeats),
        (
            "streams after the first",
            figures.legs.saturating_sub(2 * STANDING),
        ),
    ];
    for (what, count) in counts {
        assert!(count > 0, "none was {what}");
    }
}
