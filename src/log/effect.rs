//! How far a revocation has reached, and waiting for it.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use super::{
    RETENTION, Shared,
    barrier::{self, Reach},
    cursor::{Coverage, Cursor, EntryMark, LogIdentity},
};
use crate::{
    clock::Timestamp,
    domain::{
        ids::EventId,
        revocation::{Decision, FORGET_AFTER, Kind, Position},
    },
    error::Result,
    storage::{Transaction, revocation_log},
};

const _: () = assert!(RETENTION.as_secs() > FORGET_AFTER.as_secs());

/// Entries that a change appends, and whose places it will wait for.
#[derive(Debug)]
pub struct Pending {
    shared: Arc<Shared>,
    waits: Vec<Wait>,
    first: Option<(EventId, Timestamp)>,
    /// The place of the first, where it is known.
    first_position: Option<Position>,
    reached: Position,
    /// Whether one that was appended kills.
    kills: bool,
}

/// An entry whose place is waited for.
#[derive(Debug)]
struct Wait {
    event_id: EventId,
    told: oneshot::Receiver<Position>,
    /// It was there before anybody here listened.
    joined: bool,
}

/// How far a revocation has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Its place; none where time ran out before it had one.
    pub position: Option<Position>,
    /// The place of the first of its entries, where it has several: `position` is that of the last.
    pub first_position: Option<Position>,
    /// The same place as `position`, to pass on as `min_cursor`; empty where there is none.
    pub cursor: String,
    /// When it was decided, in the transaction that made it durable.
    pub commit_time: Timestamp,
    /// Whether nobody can answer "active" any more.
    pub effective: bool,
    /// Replicas that had applied it.
    pub replicas_applied: i32,
    /// Replicas that might answer from what they remember.
    pub replicas_total: i32,
}

/// Until when a writer waits.
#[derive(Debug, Clone, Copy)]
pub struct WaitUntil {
    /// For its entries' places: as long as the call lasts, however short the wait that was asked for. Who signs in after the
    /// reply must get a token that is younger than the entry.
    pub placed: Instant,
    /// For nobody to answer "active" any more.
    pub effective: Instant,
}

impl From<Instant> for WaitUntil {
    fn from(until: Instant) -> Self {
        Self {
            placed: until,
            effective: until,
        }
    }
}

impl Pending {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waits: Vec::new(),
            first: None,
            first_position: None,
            reached: Position(0),
            kills: false,
        }
    }

    /// Appends in the caller's transaction, and says under which id.
    pub async fn append(
        &mut self,
        transaction: &Transaction,
        decision: &Decision,
        now: Timestamp,
    ) -> Result<EventId> {
        let event_id = EventId::new(now)?;
        self.append_as(transaction, &event_id, decision, now)
            .await?;
        Ok(event_id)
    }

    /// Appends under an id that was made before.
    pub async fn append_as(
        &mut self,
        transaction: &Transaction,
        event_id: &EventId,
        decision: &Decision,
        now: Timestamp,
    ) -> Result<()> {
        let appended = [(event_id, decision)];
        let made = revocation_log::append(transaction, &appended, now, FORGET_AFTER).await?;
        self.expect(event_id, decision.kind, made);
        Ok(())
    }

    /// An entry of this id was appended with those of others, and dated so; it is not committed yet.
    pub fn expect(&mut self, event_id: &EventId, kind: Kind, made: Timestamp) {
        self.wait_for(event_id, false);
        self.kills |= kind == Kind::Revocation;
        self.first.get_or_insert_with(|| (event_id.clone(), made));
    }

    /// Waits for an entry that was appended earlier: whoever revokes what is already revoked.
    pub fn join(&mut self, found: &revocation_log::Found) {
        match found.position {
            Some(position) => {
                self.reached = self.reached.max(position);
                if self.first.is_none() {
                    self.first_position = Some(position);
                }
            }
            None => self.wait_for(&found.event_id, true),
        }
        self.first
            .get_or_insert_with(|| (found.event_id.clone(), found.create_time));
    }

    /// The first entry that was appended or joined, and when it was decided.
    pub fn first(&self) -> Option<(EventId, Timestamp)> {
        self.first.clone()
    }

    fn wait_for(&mut self, event_id: &EventId, joined: bool) {
        self.waits.push(Wait {
            event_id: event_id.clone(),
            told: self.shared.awaited.wait_for(event_id),
            joined,
        });
    }

    /// After the commit: waits until every entry has its place and is applied, but not beyond `until`.
    ///
    /// None where nothing was appended.
    pub async fn effect(mut self, until: WaitUntil) -> Option<Effect> {
        let (first, commit_time) = self.first()?;
        let committed = Instant::now();
        self.shared.wake();
        let mut position = Some(self.reached);
        for wait in &mut self.waits {
            let place = wait.place(&self.shared, until.placed).await;
            if wait.event_id == first {
                self.first_position = place;
            }
            position = position
                .zip(place)
                .map(|(reached, place)| reached.max(place));
        }
        let log = self.shared.identity();
        let mut reach = match position {
            Some(position) => self.reach(log, position, until.effective).await,
            None => Reach::default(),
        };
        // A log that has begun anew meanwhile is beyond that place, too, and may lack what was there.
        reach.effective &= log == self.shared.identity();
        let effect = self.describe(log, position, reach, commit_time);
        if self.kills && effect.effective {
            self.shared.effective_seconds.record(committed.elapsed());
        }
        Some(effect)
    }

    /// Waits for this server to have applied it, and for every other one.
    async fn reach(&self, log: LogIdentity, position: Position, until: Instant) -> Reach {
        let mut place = self.shared.memory.places();
        let here = place.wait_for(|place| *place >= position);
        let here = tokio::time::timeout_at(until, here);
        let here = async { matches!(here.await, Ok(Ok(_))) };
        barrier::reach(&self.shared, log, position, here, until).await
    }

    fn describe(
        &self,
        log: LogIdentity,
        position: Option<Position>,
        reach: Reach,
        commit_time: Timestamp,
    ) -> Effect {
        let cursor = position.map(|position| {
            let mark = EntryMark::default();
            self.shared.seal.seal(&Cursor {
                log,
                position,
                mark,
                coverage: Coverage::PLACE,
            })
        });
        Effect {
            position,
            first_position: self.first_position,
            cursor: cursor.unwrap_or_default(),
            commit_time,
            effective: reach.effective,
            replicas_applied: i32::try_from(reach.applied).unwrap_or(i32::MAX),
            replicas_total: i32::try_from(reach.total).unwrap_or(i32::MAX),
        }
    }
}

impl Wait {
    /// The entry's place; none where it has none by `until`.
    async fn place(&mut self, shared: &Shared, until: Instant) -> Option<Position> {
        // It may have got its place after it was found and before anybody here listened.
        if self.joined
            && let Ok(Some(found)) =
                revocation_log::find_event(shared.db.reader(), &self.event_id).await
            && found.position.is_some()
        {
            return found.position;
        }
        tokio::time::timeout_at(until, &mut self.told)
            .await
            .ok()?
            .ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        for wait in &mut self.waits {
            wait.told.close();
        }
        let event_ids = self.waits.iter().map(|wait| &wait.event_id);
        self.shared.awaited.given_up(event_ids);
    }
}
