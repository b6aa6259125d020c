//! Processes that are stopped, killed, started and ended, and whose clock is set.

use std::time::Duration;

use token_authority::clock::boottime;

use super::{
    super::{
        record::{Span, Stepped},
        world::World,
    },
    between,
};
use crate::support::{Dice, Slot, Weather};

/// By when a replica that goes on after its lease was taken away has joined again.
const JOINED: Duration = Duration::from_millis(1500);

/// An hour, in seconds.
const HOUR: i64 = 3600;

pub(super) async fn stop(slot: &Slot, duration: Duration) {
    let Some(process) = slot.process() else {
        return;
    };
    process.pause();
    tokio::time::sleep(duration).await;
    process.go_on();
}

/// For longer than a lease.
pub(super) async fn stop_for_long(world: &World, slot: &Slot, dice: &mut Dice) {
    // A long run has time for a long silence.
    let longest = if world.long && dice.below(6) == 0 {
        60_000
    } else {
        6000
    };
    let duration = between(dice, 2600, longest);
    stop(slot, duration).await;
    rejoin(slot, dice).await;
}

pub(super) async fn kill(slot: &Slot, dice: &mut Dice) {
    slot.kill();
    tokio::time::sleep(between(dice, 0, 3000)).await;
    on_a_slow_way(slot, dice, slot.start()).await;
}

pub(super) async fn kill_at_once(slot: &Slot) {
    slot.kill();
    slot.start().await;
}

/// Starts one and ends it after a while; who it was.
pub(super) async fn visit(slot: &Slot, dice: &mut Dice) -> String {
    on_a_slow_way(slot, dice, slot.start()).await;
    let name = slot.at().map(|at| at.name).unwrap_or_default();
    tokio::time::sleep(between(dice, 200, 3000)).await;
    slot.leave().await;
    name
}

/// Sets the clock of a process an hour forward and back, or back and forward.
pub(super) async fn step_clock(world: &World, slot: &Slot, dice: &mut Dice) {
    let (Some(clock), Some(at)) = (&slot.clock, slot.at()) else {
        return;
    };
    let begun = boottime();
    let number = {
        let mut record = world.record();
        // What is told meanwhile is told by a wrong clock, and it is not known yet until when.
        let span = Span {
            begun,
            ended: Duration::MAX,
        };
        record.stepped.push(Stepped {
            replica: at.name,
            span,
        });
        record.stepped.len() - 1
    };
    let first = if dice.below(2) == 0 { HOUR } else { -HOUR };
    for ahead in [first, -first, 0] {
        clock.set(ahead);
        tokio::time::sleep(between(dice, 200, 900)).await;
    }
    world.record().stepped[number].span.ended = boottime();
}

/// Gives a replica whose lease was taken away time to join again.
pub(super) async fn rejoin(slot: &Slot, dice: &mut Dice) {
    on_a_slow_way(slot, dice, tokio::time::sleep(JOINED)).await;
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
