//! What can happen next. A pause is that somebody takes no step; a delay, that a message does not, and a loss, that it never does.

use stateright::{Model, Property};
use token_authority::domain::{
    lease::{Barrier, Fencing, LeaseRow, Next, Renewal, Verdict},
    revocation::Position,
};

use super::{
    shortcuts::Shortcut,
    world::{Database, Replica, Replication, TERMS, TTL_TICKS, World},
};

pub(super) const SAFE: &str = "nobody says active after the revocation was called effective";
pub(super) const ALL_ALIVE: &str = "effective while every replica serves";
pub(super) const AFTER_FENCE: &str = "effective because a replica was fenced";
pub(super) const JOINED_AGAIN: &str = "a fenced replica serves again";
pub(super) const STILL_WRONG: &str = "a replica says active before the revocation is effective";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Time passes.
    Tick,
    /// The revocation gets its place.
    SequenceRevocation,
    /// The other writer's entry, committed by now, gets its place.
    SequenceOther,
    /// A replica sends a renewal.
    Send(usize),
    /// It is committed.
    Commit(usize, usize),
    /// The replica learns of it.
    Reply(usize, usize),
    /// A joining replica reads the head of the log.
    ReadHead(usize),
    /// It has loaded the log up to there.
    Load(usize),
    /// A replica reads on.
    Follow(usize),
    /// It crashes and starts again, or joins again after its lease has ended.
    Restart(usize),
    /// It shuts down in good order.
    GiveBack(usize),
    /// The revoker takes a snapshot, and replies that the revocation is effective, where it is.
    Look,
    /// It judges by the snapshot that it has.
    Judge,
    /// It fences a lease, where that has not moved.
    Fence(Fencing),
    /// Somebody sweeps fenced leases away.
    Sweep,
    /// The standby catches up.
    Replicate,
    /// The database's wall clock is set forward.
    SetForward,
    /// The database crashes, and what was not durable is gone.
    CrashDatabase,
    /// The revoker reads its clock, and asks for a snapshot.
    Ask,
}

impl Model for Replication {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.time < self.ticks {
            actions.push(Action::Tick);
        }
        self.of_database(world, actions);
        for index in 0..self.lives.len() {
            self.of_replica(world, index, actions);
        }
        if !world.revoker.effective {
            self.of_revoker(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let safe = Property::always(SAFE, |model: &Self, world: &World| {
            !model.active_after_effective(world)
        });
        if self.shortcut.is_some() {
            return vec![safe];
        }
        vec![
            safe,
            Property::sometimes(ALL_ALIVE, |model: &Self, world: &World| {
                let now = model.replica_time(world);
                let alive = |replica: &Replica| replica.life == 0 && replica.may_answer(now);
                world.revoker.effective && world.replicas.iter().all(alive)
            }),
            Property::sometimes(AFTER_FENCE, |_, world: &World| {
                world.revoker.effective && world.database.leases.iter().any(|row| row.fenced)
            }),
            Property::sometimes(JOINED_AGAIN, |_, world: &World| {
                let mut replicas = world.replicas.iter().enumerate();
                world.revoker.effective
                    && replicas.any(|(index, replica)| replica.serves_again(&world.database, index))
            }),
            Property::sometimes(STILL_WRONG, |model: &Self, world: &World| {
                let now = model.replica_time(world);
                let killed_at = world.database.killed_at;
                let behind =
                    |replica: &Replica| replica.may_answer(now) && replica.memory < killed_at;
                !world.revoker.effective && world.replicas.iter().any(behind)
            }),
        ]
    }
}

/// What may be done.
impl Replication {
    fn of_database(&self, world: &World, actions: &mut Vec<Action>) {
        let database = &world.database;
        if database.killed_at.is_none() {
            actions.push(Action::SequenceRevocation);
        }
        if self.late_writer && !database.other_written {
            actions.push(Action::SequenceOther);
        }
        if self.sweeping && database.leases.iter().any(|row| row.fenced) {
            actions.push(Action::Sweep);
        }
        if self.takes(Shortcut::NotDurable) && !database.crashed {
            actions.push(Action::CrashDatabase);
        }
        if self.takes(Shortcut::Standby) && database.standby < database.head {
            actions.push(Action::Replicate);
        }
        if self.takes(Shortcut::WallClock) && database.set_forward == 0 {
            actions.push(Action::SetForward);
        }
    }

    fn of_replica(&self, world: &World, index: usize, actions: &mut Vec<Action>) {
        let replica = &world.replicas[index];
        let (mut under_way, id) = (0, replica.lease().id());
        for (flight, (renewal, touched)) in replica.flights.iter().enumerate() {
            let current = renewal.id() == id;
            under_way += usize::from(current);
            match touched {
                None => actions.push(Action::Commit(index, flight)),
                Some(_) => actions.push(Action::Reply(index, flight)),
            }
        }
        let (answering, ended) = (&replica.answering, replica.lease().has_ended());
        let renewals = self.renewals[usize::from(replica.life.min(1))];
        let may_send = under_way < self.under_way && replica.sent < renewals;
        let now = self.replica_time(world);
        if may_send && matches!(answering.next(now, Position(0)), Next::Renew(_)) {
            actions.push(Action::Send(index));
        }
        match replica.loading {
            Some(_) => actions.push(Action::Load(index)),
            None if answering.load().is_some() => actions.push(Action::ReadHead(index)),
            None => {}
        }
        if answering.is_loaded() && replica.loading.is_none() {
            actions.push(Action::Follow(index));
        }
        if !ended && self.stops {
            actions.push(Action::GiveBack(index));
        }
        if (ended || self.stops) && replica.life + 1 < self.lives[index] {
            actions.push(Action::Restart(index));
        }
    }

    fn of_revoker(&self, world: &World, actions: &mut Vec<Action>) {
        let asks = self.takes(Shortcut::ClockBeforeSnapshot);
        match (asks, world.revoker.asked) {
            (true, None) => actions.push(Action::Ask),
            (true, Some(_)) | (false, _) => actions.push(Action::Look),
        }
        let Some(place) = world.database.killed_at else {
            return;
        };
        match self.verdict(world, place) {
            Verdict::Reached => actions.push(Action::Judge),
            Verdict::Waiting(fencing) => actions.extend(fencing.into_iter().map(Action::Fence)),
        }
    }

    fn verdict(&self, world: &World, place: Position) -> Verdict {
        let barrier = &world.revoker.barrier;
        let verdict = barrier.verdict(self.revoker_time(world.time), place);
        let Verdict::Waiting(fencing) = &verdict else {
            return verdict;
        };
        let standing = barrier.standing(place);
        let all_expired =
            !fencing.is_empty() && standing.applied + fencing.len() == standing.replicas;
        if self.takes(Shortcut::PlainSelect) && all_expired {
            Verdict::Reached
        } else if self.takes(Shortcut::WallClock) {
            Verdict::Waiting(world.database.expired_by_wall_clock(world.time))
        } else {
            verdict
        }
    }
}

/// What then is.
impl Replication {
    fn take(&self, world: &mut World, action: Action) {
        match action {
            Action::Tick => self.tick(world),
            Action::SequenceRevocation => world.database.killed_at = Some(world.database.append()),
            Action::SequenceOther => {
                world.database.append();
                world.database.other_written = true;
            }
            Action::Send(index) => self.send(world, index),
            Action::Commit(index, flight) => self.commit(world, index, flight),
            Action::Reply(index, flight) => self.reply(world, index, flight),
            Action::ReadHead(index) => self.read_head(world, index),
            Action::Load(index) => self.load(world, index),
            Action::Follow(index) => {
                let head = self.head(&world.database);
                let memory = &mut world.replicas[index].memory;
                *memory = (*memory).max(Some(head));
            }
            Action::Restart(index) => self.restart(world, index),
            Action::GiveBack(index) => {
                let replica = &mut world.replicas[index];
                replica.answering.end();
                (replica.memory, replica.loading) = (None, None);
                replica.flights.retain(|(_, touched)| touched.is_none());
                let id = replica.lease().id();
                world.database.leases.retain(|row| row.id != *id);
            }
            Action::Look => self.look(world),
            Action::Judge => self.judge(world),
            Action::Fence(Fencing { id, beat }) => {
                let mut rows = world.database.leases.iter_mut();
                if let Some(row) = rows.find(|row| row.id == id && row.beat == beat) {
                    row.fenced = true;
                }
            }
            Action::Sweep => world.database.leases.retain(|row| !row.fenced),
            Action::CrashDatabase => world.database.crash(),
            Action::Replicate => world.database.standby = world.database.head,
            Action::SetForward => world.database.set_forward = TTL_TICKS,
            Action::Ask => world.revoker.asked = Some(world.time),
        }
    }

    /// Whether a replica follows the log decides how long others wait for it, and nothing else: here every one does, however far
    /// behind it is.
    fn tick(&self, world: &mut World) {
        world.time += 1;
        let now = self.replica_time(world);
        for replica in &mut world.replicas {
            replica.answering.followed(now);
        }
    }

    fn send(&self, world: &mut World, index: usize) {
        let now = self.replica_time(world);
        let replica = &mut world.replicas[index];
        let applied = replica.memory.unwrap_or_default();
        if let Next::Renew(renewal) = replica.answering.next(now, applied) {
            replica.flights.push((renewal, None));
            replica.sent += 1;
        }
    }

    fn commit(&self, world: &mut World, index: usize, flight: usize) {
        let replica = &mut world.replicas[index];
        let (renewal, touched) = &mut replica.flights[flight];
        *touched = Some(world.database.renew(renewal));
        if self.takes(Shortcut::WallClock) {
            world.database.stamp(renewal, world.time);
        }
        // Nobody waits any more for the reply to an earlier lease.
        let lease = replica.answering.lease().unwrap();
        if renewal.id() != lease.id() || lease.has_ended() {
            replica.flights.remove(flight);
        }
    }

    fn reply(&self, world: &mut World, index: usize, flight: usize) {
        let now = self.replica_time(world);
        let replica = &mut world.replicas[index];
        let (renewal, touched) = replica.flights.remove(flight);
        let dated_anew = self
            .takes(Shortcut::FromReply)
            .then(|| replica.lease().renewal_sent(now, renewal.applied()));
        let renewal = dated_anew.flatten().unwrap_or(renewal);
        replica
            .answering
            .renewal_committed(&renewal, touched == Some(true));
        if replica.lease().has_ended() {
            replica.flights.retain(|(_, touched)| touched.is_none());
            if !self.takes(Shortcut::NoFlush) {
                replica.memory = None;
            }
        }
    }

    fn read_head(&self, world: &mut World, index: usize) {
        let head = self.head(&world.database);
        let replica = &mut world.replicas[index];
        let kept = replica.memory.filter(|_| self.takes(Shortcut::NoFlush));
        let place = kept.or(replica.early_head).unwrap_or(head);
        replica.loading = replica.answering.load().map(|load| (load, place));
    }

    fn load(&self, world: &mut World, index: usize) {
        let now = self.replica_time(world);
        let replica = &mut world.replicas[index];
        if let Some((load, place)) = replica.loading.take() {
            replica.memory = Some(place);
            replica.answering.loaded(load, place, now);
        }
    }

    fn restart(&self, world: &mut World, index: usize) {
        let earlier = &world.replicas[index];
        let fenced = earlier.lease().has_ended();
        let mut replica = Replica::joining(index, earlier.life + 1, self.replica_time(world));
        let left_behind = earlier
            .flights
            .iter()
            .filter(|(_, touched)| touched.is_none());
        replica.flights.extend(left_behind.cloned());
        if fenced {
            // What was begun under the lease that was lost goes on.
            replica.loading.clone_from(&earlier.loading);
        }
        if self.takes(Shortcut::NoFlush) && fenced {
            replica.memory = earlier.memory;
        }
        if self.takes(Shortcut::EarlyHead) {
            replica.early_head = Some(world.database.head);
        }
        world.replicas[index] = replica;
    }

    fn look(&self, world: &mut World) {
        let time = world.revoker.asked.take().unwrap_or(world.time);
        let head = if self.takes(Shortcut::WithoutHead) {
            Position(u64::MAX)
        } else {
            world.database.head
        };
        let now = self.revoker_time(time);
        world
            .revoker
            .barrier
            .observe(now, head, &world.database.leases);
        self.judge(world);
    }

    fn judge(&self, world: &mut World) {
        let place = world.database.killed_at;
        if place.is_some_and(|place| self.verdict(world, place) == Verdict::Reached) {
            world.revoker.effective = true;
            // It looks no more: what it has seen would only tell states apart that are the same.
            world.revoker.barrier = Barrier::new(TERMS);
        }
    }

    /// The head of the log as a replica reads it.
    fn head(&self, database: &Database) -> Position {
        if self.takes(Shortcut::Standby) {
            database.standby
        } else {
            database.head
        }
    }
}

/// One statement each.
impl Database {
    fn append(&mut self) -> Position {
        self.head = self.head.next();
        self.head
    }

    /// Whether the row was touched.
    fn renew(&mut self, renewal: &Renewal) -> bool {
        match self.leases.iter_mut().find(|row| row.id == *renewal.id()) {
            Some(row) if row.fenced => false,
            Some(row) => {
                row.beat += 1;
                row.applied = row.applied.max(renewal.applied());
                true
            }
            None if renewal.opens() => {
                self.leases.push(LeaseRow {
                    id: renewal.id().clone(),
                    beat: 0,
                    applied: renewal.applied(),
                    fenced: false,
                });
                self.leases.sort_by(|a, b| a.id.cmp(&b.id));
                true
            }
            None => false,
        }
    }

    /// The last renewal of every lease is gone.
    fn crash(&mut self) {
        self.crashed = true;
        for row in &mut self.leases {
            row.beat = row.beat.saturating_sub(1);
        }
    }

    fn stamp(&mut self, renewal: &Renewal, time: u8) {
        self.stamps.retain(|(id, _)| id != renewal.id());
        self.stamps
            .push((renewal.id().clone(), time + self.set_forward));
        self.stamps.sort();
    }

    /// Leases that were last renewed too long ago by the database's own clock.
    fn expired_by_wall_clock(&self, time: u8) -> Vec<Fencing> {
        let expired = |row: &&LeaseRow| {
            let stamp = self.stamps.iter().find(|(id, _)| *id == row.id);
            !row.fenced
                && stamp.is_some_and(|(_, stamp)| time + self.set_forward >= stamp + TTL_TICKS)
        };
        let fencing = |row: &LeaseRow| Fencing {
            id: row.id.clone(),
            beat: row.beat,
        };
        self.leases.iter().filter(expired).map(fencing).collect()
    }
}
