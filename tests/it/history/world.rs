//! What everybody in a run knows: the servers, who may ask them, what was given out, and the record.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use token_authority::{
    clock::boottime,
    domain::ids::{SpaceId, UserId},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::record::{Record, Token, TokenNumber};
use crate::support::{At, Cluster, Dice, Operator, PASSWORD};

/// How many of the newest tokens are asked about again and again.
const REMEMBERED: usize = 48;
/// Users who act in one space, and those who act in several.
const USERS: usize = 5;

/// The role of every user in the space `home`.
pub(super) const ROLE: &str = "reader";

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) cluster: Cluster,
    /// The JWT of `admin`, which nobody revokes.
    pub(super) admin: String,
    pub(super) spaces: [SpaceId; 3],
    /// Who acts in the first space alone.
    pub(super) users: Vec<User>,
    /// Who acts in all of them.
    pub(super) far_users: Vec<User>,
    /// Whether time is not short.
    pub(super) long: bool,
    /// Ends whatever goes on beside.
    pub(super) stop: CancellationToken,
    /// Calls whose answers nobody waits for.
    pub(super) pending: TaskTracker,
    record: Mutex<Record>,
    revoking: Notify,
    live: Mutex<VecDeque<Held>>,
    dead: Mutex<VecDeque<Held>>,
    all: Mutex<Vec<Held>>,
}

/// Whose tokens there are.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) id: UserId,
    pub(super) name: String,
}

/// A token that somebody holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) number: TokenNumber,
    pub(super) text: Arc<str>,
}

/// Tokens of which to ask again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Live,
    Dead,
}

impl World {
    /// Spaces, users and a role, over running replicas.
    pub(super) async fn make(cluster: Cluster, long: bool) -> Arc<Self> {
        let at = cluster.running().remove(0);
        let admin = cluster.admin().await;
        let operator = Operator::at(at.channel, &admin);
        let mut spaces = Vec::new();
        for slug in ["home", "away", "far"] {
            spaces.push(operator.space(slug).await);
        }
        let spaces: [SpaceId; 3] = spaces.try_into().unwrap();
        for space in &spaces {
            operator
                .role(space, ROLE, &["demo.read", "demo.write"])
                .await;
        }
        let (mut users, mut far_users) = (Vec::new(), Vec::new());
        for number in 0..USERS {
            let (near, far) = (format!("near-{number}"), format!("far-{number}"));
            for (name, users) in [(near, &mut users), (far, &mut far_users)] {
                let id = operator.user(&spaces[0], &name, PASSWORD).await;
                users.push(User { id, name });
            }
            operator.assign(&spaces[0], &users[number].id, ROLE).await;
            for space in &spaces[1..] {
                operator.assign(space, &far_users[number].id, ROLE).await;
            }
        }
        let all = spaces.each_ref().map(ToString::to_string).to_vec();
        let as_one = far_users
            .iter()
            .map(|user| (user.id.to_string(), all.clone()));
        let record = Record {
            begun: boottime(),
            as_one: as_one.collect::<BTreeMap<_, _>>(),
            ..Record::default()
        };
        Arc::new(Self {
            cluster,
            admin,
            spaces,
            users,
            far_users,
            long,
            stop: CancellationToken::new(),
            pending: TaskTracker::new(),
            record: Mutex::new(record),
            revoking: Notify::new(),
            live: Mutex::default(),
            dead: Mutex::default(),
            all: Mutex::default(),
        })
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that was given out.
    pub(super) fn take(&self, text: String, token: Token) -> Held {
        let mut record = self.record();
        record.tokens.push(token);
        let number = record.tokens.len() - 1;
        drop(record);
        let held = Held {
            number,
            text: text.into(),
        };
        self.remember(Fate::Live, &held);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(held.clone());
        held
    }

    /// Every token that was given out.
    pub(super) fn everything(&self) -> Vec<Held> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// Up to `count` of the newest, but for so many that are newer.
    pub(super) fn some(&self, count: usize, newer: usize) -> Vec<Held> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().skip(newer).take(count).cloned().collect()
    }

    pub(super) fn remember(&self, fate: Fate, held: &Held) {
        let mut tokens = self.of_fate(fate);
        if tokens.len() == REMEMBERED {
            tokens.pop_front();
        }
        tokens.push_back(held.clone());
    }

    /// One of those that are remembered, most often one of the newest: what is wrong is so for a short while.
    pub(super) fn any(&self, fate: Fate, dice: &mut Dice) -> Option<Held> {
        let tokens = self.of_fate(fate);
        let count = (tokens.len() as u64).max(1);
        let drawn = dice
            .below(count)
            .min(dice.below(count))
            .min(dice.below(count));
        tokens
            .iter()
            .rev()
            .nth(usize::try_from(drawn).unwrap())
            .cloned()
    }

    fn of_fate(&self, fate: Fate) -> MutexGuard<'_, VecDeque<Held>> {
        let tokens = match fate {
            Fate::Live => &self.live,
            Fate::Dead => &self.dead,
        };
        tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the replicas that run, but not that of the slot `avoided`.
    pub(super) async fn anywhere(&self, dice: &mut Dice, avoided: usize) -> At {
        loop {
            let slots = self.cluster.slots.iter().enumerate();
            let others = slots.filter(|(number, _)| *number != avoided);
            let mut running: Vec<At> = others.filter_map(|(_, slot)| slot.at()).collect();
            if !running.is_empty() {
                let drawn = dice.below(running.len() as u64);
                return running.swap_remove(usize::try_from(drawn).unwrap());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Somebody begins to revoke.
    pub(super) fn tell_revoking(&self) {
        self.revoking.notify_waiters();
    }

    /// Passes about when somebody revokes.
    pub(super) async fn when_revoking(&self, dice: &mut Dice) {
        let revoking = self.revoking.notified();
        let _ = tokio::time::timeout(Duration::from_secs(1), revoking).await;
        dice.moment(Duration::from_millis(20)).await;
    }
}
