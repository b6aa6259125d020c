//! Who asks: storytellers, each of whom has tokens made, used and ended, and asks everywhere before and after; and who asks one
//! place again and again about what is alive and what is dead, whether or not it answers.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::{
    calls::{Means, PAUSE, Place},
    record::{Form, Subject},
    world::{Fate, Held, ROLE, User, World},
};
use crate::support::{At, Dice, STANDING};

/// How often a place is asked, in milliseconds at most.
const ASKED_EVERY: u64 = 60;
/// When it is asked again about what is dead, in milliseconds at most: by then a replica may have joined.
const LATER: u64 = 150;
/// How many of these calls may be without an answer: fewer than a connection carries.
const UNANSWERED: usize = 64;

/// How many tokens are asked about at once, how often, in milliseconds at most, and how many of these calls may be without an
/// answer.
const MANY: usize = 128;
const MANY_ASKED_EVERY: u64 = 160;
const UNANSWERED_BATCHES: usize = 8;

/// Who tells stories.
struct Teller {
    dice: Dice,
    /// The replica that is never asked to do anything: whatever happens to it, some go on at their pace.
    avoids: usize,
    /// Whether one of its tokens was rotated: the first is, however few its stories are.
    has_rotated: bool,
}

impl Teller {
    async fn anywhere(&mut self, world: &World) -> At {
        world.anywhere(&mut self.dice, self.avoids).await
    }
}

/// Tells one story after the other until the world stops.
pub(super) async fn tell_stories(world: Arc<World>, number: usize, dice: Dice) {
    let mut teller = Teller {
        dice,
        avoids: number % STANDING,
        has_rotated: false,
    };
    while !world.stop.is_cancelled() {
        if teller.dice.below(5) == 0 {
            story_of_far_user(&world, &mut teller).await;
        } else {
            story_of_key(&world, &mut teller).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// An API key, JWTs made of it and of a sign-in, and the end of some of them.
async fn story_of_key(world: &Arc<World>, teller: &mut Teller) {
    let user = one_of(&world.users, &mut teller.dice).clone();
    let Some(key) = world.make_key(&teller.anywhere(world).await, &user).await else {
        return;
    };
    let mut tokens = vec![key.clone()];
    for _ in 0..2 {
        tokens.extend(world.exchange(&teller.anywhere(world).await, &key).await);
    }
    if teller.dice.below(4) == 0 {
        tokens.extend(world.sign_in(&teller.anywhere(world).await, &user, 0).await);
    }
    if teller.dice.below(5) == 0 {
        world
            .restore_role(&teller.anywhere(world).await, &user)
            .await;
    }
    ask_everywhere(world, &tokens, None).await;
    let jwt = tokens[1..].last().cloned();
    let place = match jwt {
        Some(jwt) if teller.dice.below(6) == 0 || !teller.has_rotated => {
            teller.has_rotated = true;
            let (new, place) = world.rotate(&teller.anywhere(world).await, &jwt).await;
            tokens.extend(new);
            place
        }
        jwt => {
            let means = means(world, teller, &user, &key, jwt.as_ref());
            end(world, teller, &means).await
        }
    };
    ask_after(world, teller, &tokens, place);
    // Whatever its end was, it comes to one.
    if teller.dice.below(2) == 0 {
        let place = end(world, teller, &Means::RevokeToken(key)).await;
        ask_after(world, teller, &tokens, place);
    }
}

/// JWTs of somebody who acts in several spaces, all ended by one change.
async fn story_of_far_user(world: &Arc<World>, teller: &mut Teller) {
    let user = one_of(&world.far_users, &mut teller.dice).clone();
    let mut tokens = Vec::new();
    for space in 0..2 {
        tokens.extend(
            world
                .sign_in(&teller.anywhere(world).await, &user, space)
                .await,
        );
    }
    if tokens.is_empty() {
        return;
    }
    ask_everywhere(world, &tokens, None).await;
    let place = end(world, teller, &Means::ResetPassword(user)).await;
    ask_after(world, teller, &tokens, place);
}

/// A way to end something of a story.
fn means(world: &World, teller: &mut Teller, user: &User, key: &Held, jwt: Option<&Held>) -> Means {
    let home = world.spaces[0].to_string();
    let form = |held: &Held| world.record().tokens[held.number].form.clone();
    let Form::ApiKey { id: key_id } = form(key) else {
        unreachable!("a key is one");
    };
    if let Some(jwt) = jwt
        && let Form::Jwt { id, session, .. } = form(jwt)
    {
        match teller.dice.below(20) {
            0..5 => return Means::RevokeToken(jwt.clone()),
            5..8 => return Means::CreateRevocation(Subject::Session(session)),
            8..10 => return Means::CreateRevocation(Subject::Token(id)),
            _ => {}
        }
    }
    match teller.dice.below(10) {
        0..2 => Means::RevokeApiKey(key_id),
        2 => Means::CreateRevocation(Subject::ApiKey(key_id)),
        3 => Means::DisableApiKey(key_id),
        4..6 => Means::CreateRevocation(Subject::User {
            id: user.id.to_string(),
            spaces: vec![home],
            api_keys: teller.dice.below(2) == 0,
        }),
        6 => Means::NarrowRole,
        7 => Means::CreateRevocation(Subject::Role {
            space: home,
            name: ROLE.to_owned(),
        }),
        _ => Means::UnassignRole(user.clone()),
    }
}

/// Ends something, at another place where one does not answer, and now and then twice at once.
async fn end(world: &Arc<World>, teller: &mut Teller, means: &Means) -> Option<Place> {
    if teller.dice.below(6) == 0 {
        let pending = world.pending.clone();
        let (world, at, means) = (
            Arc::clone(world),
            teller.anywhere(world).await,
            means.clone(),
        );
        let again = async move { drop(world.revoke(&at, &means, true).await) };
        pending.spawn(again);
    }
    let wait = teller.dice.below(5) > 0;
    for _ in 0..3 {
        let at = teller.anywhere(world).await;
        let place = world.revoke(&at, means, wait).await;
        if place.is_some() || world.stop.is_cancelled() {
            return place;
        }
    }
    None
}

/// Asks everywhere about what may be dead now, twice, and does not wait for the answers.
fn ask_after(world: &Arc<World>, teller: &mut Teller, tokens: &[Held], place: Option<Place>) {
    let effective = place.as_ref().is_some_and(|place| place.effective);
    if effective {
        for token in tokens {
            world.remember(Fate::Dead, token);
        }
    }
    let with_cursor = !effective || teller.dice.below(3) == 0;
    let after = place.filter(|place| with_cursor && place.position > 0);
    for at in world.cluster.running() {
        let (asking, tokens, after) = (Arc::clone(world), tokens.to_vec(), after.clone());
        let one = tokens[usize::try_from(teller.dice.below(tokens.len() as u64)).unwrap()].clone();
        let exchanges = teller.dice.below(4) == 0;
        let later = Duration::from_millis(teller.dice.below(LATER));
        world.pending.spawn(async move {
            let _ = asking.introspect(&at, &tokens, after.as_ref()).await;
            use_as_holder(&asking, &at, &one, exchanges).await;
            tokio::time::sleep(later).await;
            let _ = asking.introspect(&at, &tokens, None).await;
        });
    }
}

/// Presents a token as its holder does.
async fn use_as_holder(world: &World, at: &At, token: &Held, exchanges: bool) {
    let form = world.record().tokens[token.number].form.clone();
    match form {
        Form::ApiKey { .. } if exchanges => drop(world.exchange(at, token).await),
        Form::ApiKey { .. } | Form::Jwt { .. } => world.as_caller(at, token).await,
    }
}

/// Asks everywhere, and waits a while for the answers: what was asked about is remembered there.
async fn ask_everywhere(world: &Arc<World>, tokens: &[Held], after: Option<&Place>) {
    let mut asking = tokio::task::JoinSet::new();
    for at in world.cluster.running() {
        let (world, tokens, after) = (Arc::clone(world), tokens.to_vec(), after.cloned());
        let ask = async move { drop(world.introspect(&at, &tokens, after.as_ref()).await) };
        asking.spawn(ask);
    }
    let all = async { while asking.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_millis(300), all).await;
    asking.detach_all();
}

/// Asks one place about the newest of the dead and of the living, whether or not it has answered before.
pub(super) async fn ask_one_place(world: Arc<World>, slot: usize, mut dice: Dice) {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED));
    while !world.stop.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(dice.below(ASKED_EVERY))).await;
        let Some(at) = world.cluster.slots[slot].at() else {
            continue;
        };
        let fate = match dice.below(3) {
            0 => Fate::Live,
            _ => Fate::Dead,
        };
        let (Some(token), Ok(turn)) = (
            world.any(fate, &mut dice),
            Arc::clone(&unanswered).try_acquire_owned(),
        ) else {
            continue;
        };
        let (asking, as_holder) = (Arc::clone(&world), dice.below(4) == 0);
        world.pending.spawn(async move {
            if as_holder {
                asking.as_caller(&at, &token).await;
            } else {
                let _ = asking.introspect(&at, &[token], None).await;
            }
            drop(turn);
        });
    }
}

/// Asks one place about many at once, as whoever fills a cache does: most often the newest.
pub(super) async fn ask_about_many(world: Arc<World>, slot: usize, mut dice: Dice) {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_BATCHES));
    while !world.stop.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(dice.below(MANY_ASKED_EVERY))).await;
        let (Some(at), Ok(turn)) = (
            world.cluster.slots[slot].at(),
            Arc::clone(&unanswered).try_acquire_owned(),
        ) else {
            continue;
        };
        let older = dice.below(1000) * dice.below(2);
        let tokens = world.some(MANY, usize::try_from(older).unwrap());
        if tokens.is_empty() {
            continue;
        }
        let asking = Arc::clone(&world);
        world.pending.spawn(async move {
            let _ = asking.introspect(&at, &tokens, None).await;
            drop(turn);
        });
    }
}

fn one_of<'a, T>(things: &'a [T], dice: &mut Dice) -> &'a T {
    &things[usize::try_from(dice.below(things.len() as u64)).unwrap()]
}
