//! What is done to the servers while clients ask them.
//!
//! Several hands are at it at once. Each deals from a deck of its own, of which `kind` tells; `processes`, `connections`, `places`
//! and `transactions` are what they do.

mod connections;
mod kind;
mod places;
mod processes;
mod transactions;

use std::time::Duration;

use token_authority::clock::boottime;
use tokio::{sync::MutexGuard, time::Instant};

pub(super) use self::{
    kind::{Hand, Kind},
    transactions::{last_place, measure, prepare},
};
use super::{
    record::{Fault, Span},
    world::World,
};
use crate::support::{Dice, STANDING, STEPPED, Slot, Weather};

/// What `hand` does until `until`, and until each kind has occurred.
pub(super) async fn deal(world: &World, hand: Hand, mut dice: Dice, until: Instant) {
    if hand.deck(world.long).is_empty() {
        return;
    }
    let mut all_occurred = false;
    while !all_occurred || Instant::now() < until {
        let mut deck = hand.deck(world.long);
        while !deck.is_empty() && (!all_occurred || Instant::now() < until) {
            let drawn = usize::try_from(dice.below(deck.len() as u64)).unwrap();
            Box::pin(inflict(world, deck.swap_remove(drawn), &mut dice)).await;
            tokio::time::sleep(between(&mut dice, 50, 400)).await;
        }
        all_occurred = true;
    }
}

/// What is done last, and alone: it leaves a log so large that who is started takes long to read it.
pub(super) async fn flood(world: &World, mut dice: Dice) {
    Box::pin(inflict(world, Kind::LongSnapshot, &mut dice)).await;
}

/// Does it, and undoes it after a while.
async fn inflict(world: &World, kind: Kind, dice: &mut Dice) {
    let slot = whose(world, kind, dice);
    let (slot, _alone) = if kind.is_of_process() {
        let (slot, alone) = alone_at(world, kind, slot).await;
        (slot, Some(alone))
    } else {
        (slot, None)
    };
    // Most of what can go wrong does so around a revocation.
    world.when_revoking(dice).await;
    let name = || slot.at().map(|at| at.name).unwrap_or_default();
    let (begun, mut to) = (boottime(), name());
    match kind {
        Kind::ShortStop => processes::stop(slot, between(dice, 100, 2300)).await,
        Kind::LongStop => processes::stop_for_long(world, slot, dice).await,
        Kind::Kill => processes::kill(slot, dice).await,
        Kind::KillAtOnce => processes::kill_at_once(slot).await,
        Kind::Visit => to = processes::visit(slot, dice).await,
        Kind::SteppedClock => processes::step_clock(world, slot, dice).await,
        Kind::Lose(whose) => connections::terminate(world, whose).await,
        Kind::Cut => connections::weather(slot, Weather::Cut, between(dice, 100, 4000)).await,
        Kind::Silent => connections::silence(slot, Weather::Silent, dice).await,
        Kind::Deaf => connections::silence(slot, Weather::Deaf, dice).await,
        Kind::Slow => {
            let delay = between(dice, 5, 150);
            connections::weather(slot, Weather::Slow(delay), between(dice, 500, 3000)).await;
        }
        Kind::LateRenewal(stage, delay) => {
            connections::delay_renewal(world, slot, stage, delay.drawn(dice)).await;
        }
        Kind::LateStep => places::delay_step(world, slot, dice).await,
        Kind::Sequencers => places::sequence_out_of_turn(world, dice).await,
        Kind::HeldTransaction => transactions::hold(world, between(dice, 300, 2500)).await,
        Kind::MinuteHere => transactions::hold(world, MINUTE).await,
        Kind::MinuteElsewhere => transactions::hold_elsewhere(MINUTE).await,
        Kind::LongSnapshot => transactions::flood(world).await,
    }
    if kind.is_of_all() {
        "all".clone_into(&mut to);
    }
    let ended = boottime();
    let (kind, span) = (kind.name(), Span { begun, ended });
    world.record().faults.push(Fault { kind, to, span });
}

const MINUTE: Duration = Duration::from_mins(1);

/// The slot that a fault is meant for.
fn whose<'a>(world: &'a World, kind: Kind, dice: &mut Dice) -> &'a Slot {
    let drawn = usize::try_from(dice.below(STANDING as u64)).unwrap();
    let slots = &world.cluster.slots;
    match kind {
        Kind::Visit => &slots[STANDING],
        Kind::SteppedClock => &slots[STEPPED],
        _ => &slots[drawn],
    }
}

/// Sees to it that no other hand is at the process; where one is, and it does not matter which is killed, at another.
async fn alone_at<'a>(
    world: &'a World,
    kind: Kind,
    slot: &'a Slot,
) -> (&'a Slot, MutexGuard<'a, ()>) {
    let others = &world.cluster.slots[..STANDING];
    let free = std::iter::once(slot)
        .chain(others.iter().filter(|_| kind == Kind::KillAtOnce))
        .find_map(|slot| Some((slot, slot.hands.try_lock().ok()?)));
    match free {
        Some(free) => free,
        None => (slot, slot.hands.lock().await),
    }
}

/// A span between two numbers of milliseconds.
fn between(dice: &mut Dice, shortest: u64, longest: u64) -> Duration {
    Duration::from_millis(shortest + dice.below(longest - shortest + 1))
}
