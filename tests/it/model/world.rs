//! What there is: the database, the replicas, what is under way between them, and the revoker.

use std::time::Duration;

use token_authority::domain::{
    ids::ReplicaId,
    lease::{Answering, Barrier, Lease, LeaseRow, Load, Next, Renewal, Right, Terms},
    revocation::Position,
};

use super::shortcuts::Shortcut;

/// A lease of 2 ticks. A clock goes 2 seconds in a tick where it runs true, and 1 or 3 at its worst.
pub(super) const TERMS: Terms = Terms {
    ttl: Duration::from_secs(4),
    drift: 50,
};

/// How long a lease lasts in ticks.
pub(super) const TTL_TICKS: u8 = 2;

/// How far everything goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replication {
    /// How many leases each replica may have, one after the other.
    pub(super) lives: &'static [u8],
    /// How many renewals may be sent under the first lease, and under each later one. The first two open it and post the place;
    /// at the beginning they have been sent.
    pub(super) renewals: [u8; 2],
    /// How many of them may be under way at a time.
    pub(super) under_way: usize,
    pub(super) ticks: u8,
    /// Seconds that the clocks of replicas and revoker go in a tick.
    pub(super) clocks: [u64; 2],
    /// Whether another writer's entry may get its place before or after the revocation.
    pub(super) late_writer: bool,
    /// Whether replicas crash and shut down.
    pub(super) stops: bool,
    /// Whether fenced rows are swept away.
    pub(super) sweeping: bool,
    pub(super) shortcut: Option<Shortcut>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) time: u8,
    pub(super) database: Database,
    pub(super) replicas: Vec<Replica>,
    pub(super) revoker: Revoker,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Database {
    /// The newest place in the log.
    pub(super) head: Position,
    /// The place of the entry that kills the token; none while it waits in the inbox.
    pub(super) killed_at: Option<Position>,
    /// Whether the other writer's entry is in the log.
    pub(super) other_written: bool,
    pub(super) leases: Vec<LeaseRow>,
    /// How far a standby is.
    pub(super) standby: Position,
    /// By how many ticks its wall clock was set forward.
    pub(super) set_forward: u8,
    /// When each lease was renewed by that clock, where it is asked for.
    pub(super) stamps: Vec<(ReplicaId, u8)>,
    /// It has crashed once.
    pub(super) crashed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    /// How many leases it has had before.
    pub(super) life: u8,
    pub(super) answering: Answering,
    /// Up to where the log is in its memory; none where nothing is.
    pub(super) memory: Option<Position>,
    /// A load under way, and the head that was read for it.
    pub(super) loading: Option<(Load, Position)>,
    /// A head that was read too early.
    pub(super) early_head: Option<Position>,
    /// Renewals sent under this lease.
    pub(super) sent: u8,
    /// Renewals under way, those of earlier leases included; and whether they touched the row, once they are committed.
    pub(super) flights: Vec<(Renewal, Option<bool>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Revoker {
    pub(super) barrier: Barrier,
    /// When it asked for the snapshot that it waits for.
    pub(super) asked: Option<u8>,
    /// It has replied that the revocation is effective.
    pub(super) effective: bool,
}

impl Replication {
    /// Every replica serves, the revoker has seen its lease, and the revocation waits in the inbox.
    pub(super) fn beginning(&self) -> World {
        let replicas: Vec<Replica> = (0..self.lives.len()).map(Replica::serving).collect();
        let by_wall_clock = self.takes(Shortcut::WallClock);
        let stamp = |replica: &Replica| (replica.lease().id().clone(), 0);
        let leases: Vec<LeaseRow> = replicas.iter().map(Replica::first_row).collect();
        let mut barrier = Barrier::new(TERMS);
        barrier.observe(Duration::ZERO, Position(0), &leases);
        World {
            time: 0,
            database: Database {
                head: Position(0),
                killed_at: None,
                other_written: false,
                leases,
                standby: Position(0),
                set_forward: 0,
                crashed: false,
                stamps: replicas
                    .iter()
                    .filter(|_| by_wall_clock)
                    .map(stamp)
                    .collect(),
            },
            replicas,
            revoker: Revoker {
                barrier,
                asked: None,
                effective: false,
            },
        }
    }

    pub(super) fn takes(&self, shortcut: Shortcut) -> bool {
        self.shortcut == Some(shortcut)
    }

    /// What time it is for a replica.
    pub(super) fn replica_time(&self, world: &World) -> Duration {
        Duration::from_secs(u64::from(world.time) * self.clocks[0])
    }

    /// What time it was for the revoker.
    pub(super) fn revoker_time(&self, time: u8) -> Duration {
        Duration::from_secs(u64::from(time) * self.clocks[1])
    }

    /// Whether a replica says that the token is active although its revocation was called effective.
    pub(super) fn active_after_effective(&self, world: &World) -> bool {
        let now = self.replica_time(world);
        let killed_at = world.database.killed_at;
        let says_active = |replica: &Replica| replica.may_answer(now) && replica.memory < killed_at;
        world.revoker.effective && world.replicas.iter().any(says_active)
    }
}

impl Replica {
    fn serving(index: usize) -> Self {
        let mut replica = Self::joining(index, 0, Duration::ZERO);
        let answering = &mut replica.answering;
        for (opening, _) in replica.flights.drain(..) {
            answering.renewal_committed(&opening, true);
        }
        let load = answering.load().unwrap();
        answering.loaded(load, Position(0), Duration::ZERO);
        let Next::Renew(post) = answering.next(Duration::ZERO, Position(0)) else {
            panic!("it follows the log");
        };
        answering.renewal_committed(&post, true);
        replica.sent += 1;
        replica.memory = Some(Position(0));
        replica
    }

    /// It has sent the row of its lease.
    pub(super) fn joining(index: usize, life: u8, now: Duration) -> Self {
        let mut answering = Answering::new(TERMS, now);
        let opening = answering.join(lease_id(index, life), now);
        Self {
            life,
            answering,
            memory: None,
            loading: None,
            early_head: None,
            sent: 1,
            flights: vec![(opening, None)],
        }
    }

    pub(super) fn lease(&self) -> &Lease {
        self.answering.lease().unwrap()
    }

    pub(super) fn may_answer(&self, now: Duration) -> bool {
        self.answering.right().allows(now)
    }

    fn first_row(&self) -> LeaseRow {
        LeaseRow {
            id: self.lease().id().clone(),
            beat: 1,
            applied: Position(0),
            fenced: false,
        }
    }

    /// Whether it serves under a lease that is not its first, and lost that one to a fence.
    pub(super) fn serves_again(&self, database: &Database, index: usize) -> bool {
        let first = lease_id(index, 0);
        let was_fenced = |row: &LeaseRow| row.id == first && row.fenced;
        self.life > 0
            && self.answering.right() != Right::NONE
            && database.leases.iter().any(was_fenced)
    }
}

fn lease_id(index: usize, life: u8) -> ReplicaId {
    let letter = ["a", "b"][index];
    ReplicaId::known(letter.repeat(usize::from(life) + 1))
}
